"""The app where it does not drive: what still works, and the keys that steer a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

from engine.contract.events import Event, RunFinished
from engine.contract.numbers import clock
from engine.session.playback import Replay
from tui.actions.baseline import BaselineControl
from tui.desk.desk import Desk

if TYPE_CHECKING:
    from engine.session.engine import Engine

SEEK_S = 10

PLAYBACK_KEYS: list[BindingType] = [
    Binding("space", "replay_pause", "pause", key_display="space"),
    Binding("right", f"replay_seek({SEEK_S})", f"{SEEK_S} s", key_display="←/→"),
    Binding("left", f"replay_seek(-{SEEK_S})", f"{SEEK_S} s back", show=False),
    Binding("plus,equals_sign", "replay_speed(2.0)", "speed", key_display="+/-"),
    Binding("minus", "replay_speed(0.5)", "slower", show=False),
]
"""Keys of a recording, ahead of the app's own: they are not there when something live is shown."""

LOOKING = frozenset(
    {
        *("move_knob", "select_knob", "fold", "fold_all", "find_knob"),
        *("move_row", "select_row", "scroll_log", "zoom", "back", "next_pane"),
        *("mark", "filter", "sort", "reverse_sort", "log_scale", "recent", "presenter", "cycle_theme", "log", "meter"),
        *("choose_rank", "ranks", "job"),
        *("cursor", "move_cursor", "leave_cursor", "run_details", "explain", "copy_command", "help", "quit"),
    }
)
"""Actions that only change what is looked at. Every other one of the app's own is refused where it is read-only."""
LOCAL = frozenset({"export", "screenshot", "cards"})
"""Actions that write a file where the app runs, or tell who else is there: not for somebody behind a browser."""


class ReadOnlyControl:
    """Owns `state.playback`, what is shown instead of an engine of one's own; plays recordings."""

    def __init__(self, desk: Desk, baseline: BaselineControl, session: Engine, *, is_on: bool) -> None:
        self._desk, self._baseline, self._session = desk, baseline, session
        self._is_on = is_on

    @property
    def replay(self) -> Replay | None:
        """The recording on the screen, if it is one."""
        return self._session if isinstance(self._session, Replay) else None

    def name(self) -> None:
        """Say what is shown."""
        self._desk.state.playback = self._session.label

    def leave_knobs_alone(self) -> None:
        """Their keys would do nothing, and stand in the way of a recording's."""
        if self._is_on and self._desk.main is not None:
            self._desk.main.query_one("#knobs").can_focus = False
            self._desk.main.query_one("#results").focus()

    def answer(self, key: str) -> None:
        """Answer a key that does nothing here."""
        main = self._desk.main
        if self._is_on and main is not None and self._desk.shows_panes:
            active = main.active_bindings.get(key)
            if active is not None and not active.enabled:
                self._desk.say(f"read-only: {self._desk.state.playback}")

    def pause(self) -> None:
        """Pause the recording, or let it go on."""
        if self.replay is not None:
            self.replay.pause()
            self._say_position(self.replay)

    def change_speed(self, factor: float) -> None:
        """Play the recording faster or slower."""
        if self.replay is not None:
            self.replay.change_speed(factor)
            self._say_position(self.replay)

    def seek(self, by_s: float) -> None:
        """Go forward or back in the recording, by seconds as they pass on the screen."""
        replay = self.replay
        if replay is not None:
            if replay.seek(by_s * replay.speed):
                self._desk.state.forget()
                self._baseline.forget()
            self._say_position(replay)

    def show_baseline(self, event: Event) -> None:
        """In a recording a baseline is one from its end on."""
        replay = self.replay
        if replay is None or not isinstance(event, RunFinished):
            return
        job, run_id = event.record.config.job, event.record.run_id
        if replay.baselines.get(job) == run_id:
            self._baseline.take(job, run_id)

    def _say_position(self, replay: Replay) -> None:
        self.name()
        self._desk.say(f"{clock(replay.position)} of {clock(replay.duration)}")
