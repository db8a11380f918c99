"""Looking: zoom, focus, scales, windows, colours, the log, help."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from engine.contract.events import Event
from engine.history.history import HistoryError
from tui.actions.hand_over import HandOverActions
from tui.state.captions import Captions
from tui.state.knobs import describe
from tui.state.view import Ghost
from tui.terminal.palette import THEMES

GHOST_SLICE_S = 0.004
"""Of each drain: reading a long run's series must not keep a key waiting."""


class ViewActions(HandOverActions):
    """Nothing here changes a run."""

    _ghost_events: Iterator[tuple[int, Event]] | None = None
    _captions: Captions | None = None

    def _pinned(self, run_id: int | None) -> None:
        """Read the new baseline's series bit by bit, to draw it behind the live one."""
        super()._pinned(run_id)
        self.state.view.ghost = Ghost(run_id) if run_id is not None else None
        self._ghost_events = iter(self.history.series(run_id)) if run_id is not None else None

    def _read_ghost(self) -> None:
        """Go on reading the baseline's series for a moment."""
        events, ghost = self._ghost_events, self.state.view.ghost
        if events is None or ghost is None:
            return
        until = perf_counter() + GHOST_SLICE_S
        try:
            while perf_counter() < until:
                found = next(events, None)
                if found is None:
                    self._ghost_events = None
                    return
                ghost.add([found[1]])
        except HistoryError as error:
            self._ghost_events = None
            self.state.write("history", str(error), "warning")

    def action_zoom(self) -> None:
        """Let the focused pane fill the screen, or put it back."""
        if self.main is not None and self.screen is self.main:
            self.main.zoom(self.focused.id if self.main.zoomed is None and self.focused is not None else None)
            self.call_after_refresh(self._paint)

    def action_unzoom(self) -> None:
        """Put the pane back that fills the screen."""
        if self.main is not None and self.main.zoomed is not None:
            self.action_zoom()

    def action_next_pane(self, direction: int) -> None:
        """Move the focus; while a pane fills the screen, the next one takes its place."""
        if self.main is not None and self.screen is self.main:
            self.main.focus_next_pane(direction)
            self.call_after_refresh(self._paint)

    def action_log_scale(self) -> None:
        """Draw the loss on a logarithmic axis, or on a linear one."""
        self.state.view.log_y = not self.state.view.log_y
        self._say("loss: logarithmic axis" if self.state.view.log_y else "loss: linear axis")

    def action_recent(self) -> None:
        """Show the last minute of the run, or the whole of it."""
        self.state.view.recent = not self.state.view.recent
        self._say("plots: the last minute" if self.state.view.recent else "plots: the whole run")

    def action_presenter(self) -> None:
        """Large figures, fewer panes, the keys that are pressed, and captions of what changes."""
        self.state.view.presenter = not self.state.view.presenter
        self.state.view.keys = []
        self._captions = Captions(self.state) if self.state.view.presenter else None
        self.state.view.caption = f"the next run: {describe(self.state.editor.config)}"
        if self.main is not None:
            self.main.present(self.state.view.presenter)
        self.call_after_refresh(self._paint)

    def _caption(self) -> bool:
        """While presenting, say what changed; False where nothing did."""
        caption = self._captions.look(self.state) if self._captions is not None else None
        if caption is not None:
            self.state.view.caption = caption
        return caption is not None

    def action_cycle_theme(self) -> None:
        """Change colours: dark, light, high contrast, for colour-blind eyes."""
        names = list(THEMES)
        index = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(index + 1) % len(names)]
        self._say(f"colours: {self.theme.removeprefix('traintop-')}")

    def action_scroll_log(self, delta: int) -> None:
        """Show older or newer lines of the log."""
        self.state.scroll_log(delta)
        self._say()

    def action_log(self) -> None:
        """Show or hide the log."""
        if self.main is not None:
            self.main.toggle_log()
            self.call_after_refresh(self._paint)

    def action_help(self) -> None:
        """The keys of where you are."""
        from tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen.active_bindings.values(), self.state.editor), self._back)
