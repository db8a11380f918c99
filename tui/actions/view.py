"""Looking: zoom, focus, scales, windows, colours, the log, help."""

from __future__ import annotations

from tui.desk.desk import Desk
from tui.terminal.palette import THEMES


class ViewControl:
    """Owns the switches of `state.view`. Nothing here changes a run."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.state.view

    def zoom(self) -> None:
        """Let the focused pane fill the screen, or put it back."""
        main, focused = self._desk.main, self._desk.focused
        if main is not None and self._desk.shows_panes:
            main.zoom(focused.id if main.zoomed is None and focused is not None else None)
            self._desk.paint_soon()

    def unzoom(self) -> bool:
        """Put the pane back that fills the screen; False where none does."""
        if self._desk.main is None or self._desk.main.zoomed is None:
            return False
        self.zoom()
        return True

    def next_pane(self, direction: int) -> None:
        """Move the focus; while a pane fills the screen, the next one takes its place."""
        if self._desk.main is not None and self._desk.shows_panes:
            self._desk.main.focus_next_pane(direction)
            self._desk.paint_soon()

    def log_scale(self) -> None:
        """Draw the loss on a logarithmic axis, or on a linear one."""
        self._view.log_y = not self._view.log_y
        self._desk.say("loss: logarithmic axis" if self._view.log_y else "loss: linear axis")

    def recent(self) -> None:
        """Show the last minute of the run, or the whole of it."""
        self._view.recent = not self._view.recent
        self._desk.say("plots: the last minute" if self._view.recent else "plots: the whole run")

    def cycle_theme(self) -> None:
        """Change colours: dark, light, high contrast, for colour-blind eyes."""
        app, names = self._desk.app, list(THEMES)
        index = names.index(app.theme) if app.theme in names else -1
        app.theme = names[(index + 1) % len(names)]
        self._desk.say(f"colours: {app.theme.removeprefix('traintop-')}")

    def scroll_log(self, delta: int) -> None:
        """Show older or newer lines of the log."""
        self._desk.state.scroll_log(delta)
        self._desk.say()

    def log(self) -> None:
        """Show or hide the log."""
        if self._desk.main is not None:
            self._desk.main.toggle_log()
            self._desk.paint_soon()

    def help(self) -> None:
        """The keys of where you are."""
        from tui.screens.help import HelpScreen

        pane, editor = self._desk.focused, self._desk.state.editor
        bindings = self._desk.app.screen.active_bindings.values()
        name = (pane.id or "") if pane is not None else ""
        self._desk.open(HelpScreen(bindings, name, editor.list.cursor, editor.config))
