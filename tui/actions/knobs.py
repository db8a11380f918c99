"""Turning the knobs of the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.config import KNOBS
from tui.actions.base import ActionsBase
from tui.state.knobs import shown

if TYPE_CHECKING:
    from engine.knobs.named import NamedKnobs


class KnobActions(ActionsBase):
    """A change applies to the next run, never to the one under way."""

    def action_step(self, name: str, direction: int) -> None:
        """Turn one knob; at the end of its steps it goes round when it has one key only."""
        self.state.editor.step(name, direction, wrap=name == "dataloader_num_workers")
        self._say()

    def action_turn(self, direction: int) -> None:
        """Turn the knob under the cursor."""
        self.action_step(self.state.editor.selected, direction)

    def action_move_knob(self, delta: int) -> None:
        """Move the cursor through the knobs."""
        self.state.editor.move(delta)
        self._say()

    def action_select_knob(self, name: str) -> None:
        """Put the cursor on a knob."""
        self.state.editor.select(name)
        self._say()

    def action_type_value(self, name: str = "") -> None:
        """Ask for a value of a knob."""
        from tui.screens.value import ValueScreen

        self.push_screen(ValueScreen(self.state.editor, name or self.state.editor.selected), self._back)

    def action_named(self) -> None:
        """Load a configuration that has a name, or give the next run's one."""
        from tui.screens.named import NamedScreen

        self.push_screen(NamedScreen(self.state.editor.config), self._load_named)

    def _load_named(self, named: NamedKnobs | None) -> None:
        if named is not None and named.config is not None:
            self.state.editor.replace(named.config)
            self.state.editor.problem = None
            self.state.notice = f"the next run is {named.name}: r runs it, u takes it back"
        self._back()

    def action_undo(self) -> None:
        """Take the last change of a knob back."""
        name = self.state.editor.undo()
        if name is None:
            self._say("nothing to undo")
            return
        self._say(f"undone: {KNOBS[name].label} {shown(KNOBS[name], getattr(self.state.editor.config, name))}")
