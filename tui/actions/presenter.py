"""The presenter's view: large figures, the keys that are pressed, captions of what changes."""

from __future__ import annotations

from textual import events

from tui.desk.desk import Desk
from tui.drawing.key_names import key_name
from tui.state.captions import Captions
from tui.state.knobs import describe


class PresenterControl:
    """Owns the captions, and what was said to those who watch.

    There is nothing of it while nobody presents, but for a recording with notes: they are its captions in every view.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.state.view
        self._captions: Captions | None = None
        self._shown_key: events.Key | None = None

    def toggle(self) -> None:
        """Large figures, fewer panes, the keys that are pressed, and captions of what changes; or none of it."""
        state, view = self._desk.state, self._view
        view.presenter = not view.presenter
        view.keys = []
        self._captions = Captions(state) if view.presenter else None
        view.caption = self._first()
        if self._desk.main is not None:
            self._desk.main.present(view.presenter)
        self._desk.paint_soon()

    def _first(self) -> str:
        """What is said before anything changes: what a recording shows, or what `r` would run."""
        state = self._desk.state
        if state.playback:
            run = state.run
            return state.playback if run is None else f"run {run.run_id}: {describe(run.config)}"
        return f"the next run: {state.following or describe(state.editor.config)}"

    def see_key(self, event: events.Key) -> None:
        """Show those who watch which key was pressed; one that a pane has no use for is seen twice."""
        if self._view.presenter and event is not self._shown_key:
            self._shown_key = event
            self._view.pressed(key_name(event.key))
            self._desk.paint_soon()

    def caption(self) -> bool:
        """Say what changed, or what a recorded run is to show; False where nothing did."""
        state = self._desk.state
        if self._captions is None and state.playback and state.table.notes and self._desk.main is not None:
            self._captions = Captions(state, run_is_told=False)
            self._desk.main.guide()
        caption = self._captions.look(self._desk.state) if self._captions is not None else None
        if caption is not None:
            self._view.caption = caption
        return caption is not None
