"""Turning the knobs of the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.config import KNOBS
from tui.desk.desk import Desk
from tui.state.knobs import shown

if TYPE_CHECKING:
    from engine.knobs.named import NamedKnobs


class KnobControl:
    """Turns `state.editor`, which a proposal alone sets besides. A change applies to the next run only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._editor = desk.state.editor

    def step(self, name: str, direction: int) -> None:
        """Turn one knob; at the end of its steps it goes round when it has one key only."""
        self._editor.step(name, direction, wrap=name == "dataloader_num_workers")
        self._desk.say()

    def turn(self, direction: int) -> None:
        """Turn the knob under the cursor."""
        self.step(self._editor.selected, direction)

    def move(self, delta: int) -> None:
        """Move the cursor through the knobs."""
        self._editor.move(delta)
        self._desk.say()

    def select(self, name: str) -> None:
        """Put the cursor on a knob."""
        self._editor.select(name)
        self._desk.say()

    def type_value(self, name: str = "") -> None:
        """Ask for a value of a knob."""
        from tui.screens.value import ValueScreen

        self._desk.open(ValueScreen(self._editor, name or self._editor.selected))

    def choose_named(self) -> None:
        """Load a configuration that has a name, or give the next run's one."""
        from tui.screens.named import NamedScreen

        self._desk.open(NamedScreen(self._editor.config), self._load)

    def _load(self, named: NamedKnobs | None) -> None:
        if named is not None and named.config is not None:
            self._editor.replace(named.config)
            self._editor.problem = None
            self._desk.state.notice = f"the next run is {named.name}: r runs it, u takes it back"

    def undo(self) -> None:
        """Take the last change of a knob back."""
        name = self._editor.undo()
        if name is None:
            self._desk.say("nothing to undo")
            return
        self._desk.say(f"undone: {KNOBS[name].label} {shown(KNOBS[name], getattr(self._editor.config, name))}")
