"""The app where it does not drive: what still works, and the keys that steer a recording."""

from __future__ import annotations

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType

from engine.contract.events import Event, RunFinished
from engine.contract.numbers import clock
from engine.session.playback import Replay
from tui.actions.base import ActionsBase

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
        *("move_knob", "select_knob", "move_row", "select_row", "scroll_log", "zoom", "unzoom", "next_pane"),
        *("mark", "filter", "sort", "reverse_sort", "log_scale", "recent", "presenter", "cycle_theme", "log", "meter"),
        *("cursor", "move_cursor", "leave_cursor", "run_details", "explain", "copy_command", "help", "quit"),
    }
)
"""Actions that only change what is looked at. Every other one of the app's own is refused where it is read-only."""
WRITING = frozenset({"export", "screenshot"})
"""Actions that write a file where the app runs: not for somebody behind a browser."""


class ReadOnlyActions(ActionsBase):
    """Refuses what would change something, and plays recordings."""

    read_only: bool = False

    @property
    def replay(self) -> Replay | None:
        """The recording on the screen, if it is one."""
        return self.session if isinstance(self.session, Replay) else None

    @property
    def playback_label(self) -> str:
        """What is shown instead of an engine of one's own; empty where there is one."""
        return self.session.label

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None, which says so when the key is pressed, for what would change something."""
        if action.startswith("replay_"):
            return self.replay is not None
        if self.read_only and not self._is_harmless(action):
            return None
        return super().check_action(action, parameters)

    def _is_harmless(self, action: str) -> bool:
        if action in WRITING:
            return not self.is_web
        name = f"action_{action}"
        return action in LOOKING or getattr(type(self), name, None) is getattr(App, name, None)  # Textual's own

    def _leave_knobs_alone(self) -> None:
        """Their keys would do nothing, and stand in the way of a recording's."""
        if self.main is not None:
            self.main.query_one("#knobs").can_focus = False
            self.main.query_one("#results").focus()

    def on_key(self, event: events.Key) -> None:
        """Answer a key that does nothing here."""
        main = self.main
        if self.read_only and main is not None and self.screen is main:
            active = main.active_bindings.get(event.key)
            if active is not None and not active.enabled:
                self._say(f"read-only: {self.playback_label}")

    def action_replay_pause(self) -> None:
        """Pause the recording, or let it go on."""
        if self.replay is not None:
            self.replay.pause()
            self._say_position(self.replay)

    def action_replay_speed(self, factor: float) -> None:
        """Play the recording faster or slower."""
        if self.replay is not None:
            self.replay.change_speed(factor)
            self._say_position(self.replay)

    def action_replay_seek(self, by_s: float) -> None:
        """Go forward or back in the recording, by seconds as they pass on the screen."""
        replay = self.replay
        if replay is not None:
            if replay.seek(by_s * replay.speed):
                self.state.forget()
                self._pinned(None)
            self._say_position(replay)

    def _show_baseline(self, event: Event) -> None:
        """In a recording a baseline is one from its end on."""
        if self.replay is not None and isinstance(event, RunFinished) and event.record.run_id == self.replay.baseline:
            self._pinned(self.replay.baseline)

    def _say_position(self, replay: Replay) -> None:
        self._say(f"{clock(replay.position)} of {clock(replay.duration)}")
