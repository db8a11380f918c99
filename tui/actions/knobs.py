"""Turning the knobs of the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.knob import SCRIPT
from tui.desk.desk import Desk
from tui.state.knob_list import Row, label_of
from tui.state.knobs import turned, value_of

if TYPE_CHECKING:
    from engine.knobs.named import NamedKnobs


_ONE_KEY = ("dataloader_num_workers", "prompt_len")
"""Numbers with one key, for more: at the end of their steps they begin anew."""


class KnobControl:
    """Turns `state.editor`, which a proposal alone sets besides. A change applies to the next run only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._editor = desk.state.editor

    def step(self, name: str, direction: int) -> None:
        """Turn one knob; at the end of its steps it goes round when it has one key only."""
        self._editor.step(name, direction, wrap=name in _ONE_KEY, device=self._desk.state.ready)
        if name == "job":
            self._desk.state.shown_job = None
        self._desk.say()

    def turn_job(self) -> None:
        """Turn to the other job, with its knobs and its rows; where somebody else drives, to its rows."""
        state = self._desk.state
        if state.playback:
            jobs = state.jobs
            state.shown_job = jobs[(jobs.index(state.table_job) + 1) % len(jobs)]
            what = "of scripts" if state.shown_job == SCRIPT else f"that {state.shown_job}"
            self._desk.say(f"runs {what}: J shows the others")
            return
        self.step("job", 1)
        trained = state.trained
        if trained is not None and not state.running and self._editor.take_trained(trained):
            self._desk.say(f"the model is that of run {trained.run_id}: m takes another, Q asks it")

    def turn(self, direction: int) -> None:
        """Turn the knob under the cursor."""
        group = self._editor.list.cursor.group
        if self._editor.selected:
            self.step(self._editor.selected, direction)
        else:
            self.fold(group, direction > 0)

    def move(self, delta: int) -> None:
        """Move the cursor through the knobs."""
        self._editor.move(delta)
        self._desk.say()

    def select(self, name: str, own: str = "") -> None:
        """Put the cursor on a knob."""
        self._editor.select(name, own)
        self._desk.say()

    def fold(self, group: str, is_open: bool | None = None) -> None:
        """Open or close a group of knobs (None: the other way)."""
        self._editor.list.fold(group, is_open=is_open)
        self._desk.say()

    def fold_all(self) -> None:
        """Close all groups of knobs, or open them where none is open."""
        is_open = self._editor.list.fold_all()
        self._desk.say("all groups are open: G closes them" if is_open else "all groups are closed: G opens them")

    def find(self) -> None:
        """Ask for a knob by its name, and put the cursor on it."""
        from tui.screens.find_knob import FindKnobScreen

        def take(row: Row | None) -> None:
            if row is not None:
                self.select(row.knob, row.own)

        self._desk.open(FindKnobScreen(self._editor.config), take)

    def type_value(self, name: str = "", own: str = "") -> None:
        """Ask for a value of a knob, by default of the one under the cursor; the heading of a group is opened."""
        from tui.screens.choose_model import ChooseModelScreen
        from tui.screens.value import ValueScreen

        row = Row("", name, own) if name else self._editor.list.cursor
        if row.knob == "model" and not self._editor.config.is_script:
            self._desk.open(ChooseModelScreen(self._editor), lambda _: self._desk.say())
        elif row.knob:
            self._desk.open(ValueScreen(self._editor, row), lambda _: self._desk.say())
        else:
            self.fold(self._editor.list.cursor.group)

    def choose_named(self) -> None:
        """Load a configuration that has a name, or give the next run's one."""
        from tui.screens.named import NamedScreen

        self._desk.open(NamedScreen(self._editor.config), self._load)

    def _load(self, named: NamedKnobs | None) -> None:
        if named is None or named.config is None:
            return
        changes = turned(self._editor.config, named.config)
        if not changes:
            self._desk.state.notice = f"{named.name} are the next run's knobs already"
            return
        if named.config.job != self._editor.config.job:
            self._desk.state.shown_job = None
        self._editor.load(named.config)
        self._desk.state.notice = f"{named.name}: {changes}; u takes it back"
        self._desk.state.write("knobs", f"{named.name}: {changes}")

    def undo(self) -> None:
        """Take the last change of a knob back."""
        rows = self._editor.undo()
        values = [f"{label_of(row)} {value_of(self._editor.config, row)}" for row in rows]
        self._desk.say(f"undone: {', '.join(values)}" if values else "nothing to undo")
