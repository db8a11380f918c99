"""The knobs of the next run."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType

from engine.contract.config import KNOBS
from tui.drawing.cells import Line, cut, ends, wrap
from tui.panes.base import Pane
from tui.state.knobs import LETTERS, ORDER, changed_knobs, shown
from tui.state.state import State

_ARROW = " → "


class KnobsPane(Pane, can_focus=True):
    """The list of all knobs, and beneath it what the one under the cursor does or why it was refused."""

    TITLE = "Next run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "app.move_knob(-1)", "previous knob", show=False),
        Binding("down,j", "app.move_knob(1)", "next knob", show=False),
        Binding("pageup", "app.move_knob(-10)", "10 knobs up", show=False),
        Binding("pagedown", "app.move_knob(10)", "10 knobs down", show=False),
        Binding("home", "app.move_knob(-100)", "first knob", show=False),
        Binding("end", "app.move_knob(100)", "last knob", show=False),
        Binding("right,plus", "app.turn(1)", "next value", show=False),
        Binding("left,minus", "app.turn(-1)", "previous value", show=False),
        Binding("enter", "app.type_value", "type a value", key_display="Enter"),
    ]

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._top = 0

    def title(self, state: State) -> str:
        """Where somebody else drives, the knobs are those of the run that is shown."""
        return "Knobs" if state.playback else self.TITLE

    def headline(self, state: State, width: int) -> Line:
        """How much differs from the run under way, or from the last one."""
        changed = len(changed_knobs(state.reference, state.editor.config))
        return [(f"{changed} changed", "pending")] if changed and width >= 9 else []

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The list, a rule, and the lines on the knob under the cursor."""
        notes = self._notes(state, width - 1, height // 2)
        # room for the longest "why", so that the list stays put; a refusal takes what it needs
        n_notes = max(6 if height >= 26 else 4, len(notes) if state.editor.problem is not None else 0)
        rows = max(1, height - n_notes - 1)
        index = ORDER.index(state.editor.selected)
        # the cursor stays one row off the edges, so that what comes next is in sight
        self._top = max(0, min(max(self._top, index - rows + 2), index - 1, len(ORDER) - rows))
        lines = [self._row(state, name, width) for name in ORDER[self._top : self._top + rows]]
        hidden = len(ORDER) - self._top - rows
        more = f" {hidden} more " if hidden > 0 else ""
        lines.append([("─" * (width - len(more)), "frame"), (more, "muted")])
        return lines + notes[:n_notes]

    def _row(self, state: State, name: str, width: int) -> Line:
        knob, editor, reference = KNOBS[name], state.editor, state.reference
        value = shown(knob, getattr(editor.config, name))
        before = shown(knob, getattr(reference, name)) if reference is not None else value
        current = name == editor.selected
        at_fault = editor.problem is not None and editor.problem.knob == name
        mark = "!" if at_fault else "▸" if current else " "
        label = knob.label
        room = width - cell_len(label) - 5
        both = f"{before}{_ARROW}{value}"
        text = value if value == before else both if cell_len(both) <= room else cut(f"→ {value}", room)
        roles = ("bad", "bad") if at_fault else ("text", "pending" if value != before else "value")
        if current and not at_fault:
            roles = ("cursor", "cursor") if self.has_focus else ("chosen", "chosen")
        key = LETTERS.get(name, " ")
        key_role = "cursor" if roles[0] == "cursor" else "key"
        left: Line = [(mark, roles[0]), (key, key_role), (f" {label}", roles[0])]
        return ends(left, [(cut(text, room), roles[1]), (" ", roles[1])], width, (" ", roles[0]))

    def _notes(self, state: State, width: int, limit: int) -> list[Line]:
        problem = state.editor.problem
        text, role = (problem.message, "bad") if problem is not None else (state.editor.knob.why, "muted")
        return [[(" ", "text"), (line, role)] for line in wrap(text, width, limit)]

    async def on_click(self, event: events.Click) -> None:
        """Put the cursor on the knob that was clicked."""
        row = event.y - 1 + self._top
        if self.state is not None and 1 <= event.y < self.size.height - 1 and row < len(ORDER):
            await self.run_action(f"app.select_knob({ORDER[row]!r})")
