"""The knobs of the next run."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType

from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import SCRIPT
from engine.contract.numbers import UNKNOWN
from engine.contract.script_name import script_name
from engine.contract.text import capitalised
from tui.drawing.cells import Line, cut, cut_middle, ends, wrap
from tui.panes.base import Pane
from tui.state.knob_list import LETTERS, Row, about, in_groups, label_of, set_knobs
from tui.state.knobs import changed_rows, is_said, said_row, value_before, why
from tui.state.script_knobs import NOT_CARRIED
from tui.state.state import State

_ARROW = " → "
_LONG = 28
"""Cells in which a command's two ends tell more than its name."""
_FOLDED, _OPEN = "+", "−"
"""Before a group's name."""


class KnobsPane(Pane, can_focus=True):
    """The list of knobs, and beneath it what the one under the cursor does or why it was refused."""

    TITLE = "Next run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "app.move_knob(-1)", "previous knob", show=False),
        Binding("down,j", "app.move_knob(1)", "next knob", show=False),
        Binding("pageup", "app.move_knob(-10)", "10 knobs up", show=False),
        Binding("pagedown", "app.move_knob(10)", "10 knobs down", show=False),
        Binding("home", "app.move_knob(-100)", "first knob", show=False),
        Binding("end", "app.move_knob(100)", "last knob", show=False),
        Binding("right,plus", "app.turn(1)", "next value, open the group", show=False),
        Binding("left,minus", "app.turn(-1)", "previous value, close the group", show=False),
        Binding("enter", "app.type_value", "type a value", key_display="Enter"),
        Binding("slash", "app.find_knob", "find", key_display="/"),
        Binding("G", "app.fold_all", "open or close all groups", show=False),
    ]

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._top = 0
        self._shown: list[Row] = []
        self._above = 1
        """Lines above the list, the frame among them."""

    def title(self, state: State) -> str:
        """Where somebody else drives, they are those of the run that is shown; a plan's runs come before theirs."""
        if state.playback:
            return "Knobs"
        return self.TITLE if state.following is None else "After the plan"

    def headline(self, state: State, width: int) -> Line:
        """How much differs from the run under way, or from the last one."""
        changed = len(changed_rows(state.reference, state.editor.config))
        return [(f"{changed} changed", "pending")] if changed and width >= 9 else []

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The list, a rule, and the lines on the knob under the cursor."""
        # room for the longest "why", so that the list stays put; a refusal takes what it needs
        n_notes = 6 if height >= 26 else 4
        notes = self._notes(state, width - 1, n_notes if state.editor.problem is None else height // 2)
        n_notes = max(n_notes, len(notes))
        announced = self._announced(state, width)
        n_rows = max(1, height - n_notes - 1 - len(announced))
        places, config = state.editor.list, state.editor.config
        rows, index = places.rows(config), places.index(config)
        # the cursor stays one row off the edges, so that what comes next is in sight
        self._top = max(0, min(max(self._top, index - n_rows + 2), index - 1, len(rows) - n_rows))
        self._shown, self._above = rows[self._top : self._top + n_rows], 1 + len(announced)
        lines = [*announced, *(self._row(state, row, width) for row in self._shown)]
        hidden = len(rows) - self._top - n_rows
        lines += [[]] * (n_rows - len(self._shown))
        more = f" {hidden} more " if hidden > 0 else ""
        return [*lines, _rule(state.editor.config, more, width), *notes]

    def _announced(self, state: State, width: int) -> list[Line]:
        """The next run, where it is not that of the knobs."""
        if state.following is None or state.playback:
            return []
        lines = wrap(f"next: {state.following}", width - 1, 2)
        return [[(" ", "text"), (line, "accent")] for line in lines]

    def _row(self, state: State, row: Row, width: int) -> Line:
        return self._knob(state, row, width) if row.knob else self._heading(state, row.group, width)

    def _heading(self, state: State, group: str, width: int) -> Line:
        """A group's name, and how many of its knobs are not at their default; of a script's how many are carried."""
        config, places = state.editor.config, state.editor.list
        names, differ = in_groups(config).get(group, ()), set_knobs(group, config)
        pending = {row.knob for row in changed_rows(state.reference, config)}.intersection(names)
        how = " carried" if config.is_script else " differ"
        count = f"{len(differ)}/{len(names)}{how}" if differ and group != SCRIPT else f"{len(names)}"
        if cell_len(group) + cell_len(count) + 5 > width:
            count = count.removesuffix(how)
        roles = ("title", "pending" if pending else "value" if differ else "muted")
        current = places.cursor == Row(group)
        if current:
            roles = ("cursor", "cursor") if self.has_focus else ("chosen", "chosen")
        sign = _OPEN if group in places.opened else _FOLDED
        key_role = "cursor" if roles[0] == "cursor" else "key"
        left: Line = [("▸" if current else " ", roles[0]), (sign, key_role), (f" {group}", roles[0])]
        return ends(left, [(count, roles[1]), (" ", roles[1])], width, (" ", roles[0]))

    def _knob(self, state: State, row: Row, width: int) -> Line:
        editor, reference = state.editor, state.reference
        label, value = label_of(row), said_row(editor.config, row)
        before = value_before(reference, row) if reference is not None else value
        current = row == editor.list.cursor
        at_fault = editor.problem is not None and editor.problem.knob == row.knob and (current or not row.own)
        mark = "!" if at_fault else "▸" if current else " "
        room = width - cell_len(label) - 5
        both = f"{before}{_ARROW}{value}"
        text = value if value == before else both if cell_len(both) <= room else cut(f"→ {value}", room)
        if row.knob == "command" and cell_len(text) > room:
            name = script_name(editor.config)
            text = cut_middle(value, room) if room >= _LONG else cut(f"{name} …", room)
        roles = ("text", "pending" if value != before else "value")
        if not is_said(editor.config, row.knob):
            text = UNKNOWN if value == NOT_CARRIED else value
            roles = ("muted", "pending" if value != before else "muted")
        if at_fault:
            roles = ("bad", "bad")
        elif current:
            roles = ("cursor", "cursor") if self.has_focus else ("chosen", "chosen")
        key = LETTERS[editor.config.job].get(row.knob, " ")
        key_role = "cursor" if roles[0] == "cursor" else "key"
        left: Line = [(mark, roles[0]), (key, key_role), (f" {label}", roles[0])]
        return ends(left, [(cut(text, room), roles[1]), (" ", roles[1])], width, (" ", roles[0]))

    def _notes(self, state: State, width: int, limit: int) -> list[Line]:
        problem, place = state.editor.problem, state.editor.list.cursor
        if problem is not None:
            text, role = problem.message, "bad"
        elif place.knob:
            text, role = why(state.editor.config, place), "muted"
        else:
            config = state.editor.config
            labels = [KNOBS[name].label for name in in_groups(config).get(place.group, ())]
            text, role = f"{capitalised(about(place.group, config))}: {', '.join(labels)}", "muted"
        return [[(" ", "text"), (line, role)] for line in wrap(text, width, limit)]

    async def on_click(self, event: events.Click) -> None:
        """Put the cursor on the knob that was clicked; a group opens or closes."""
        if 0 <= event.y - self._above < len(self._shown):
            row = self._shown[event.y - self._above]
            select = f"app.select_knob({row.knob!r}, {row.own!r})"
            await self.run_action(select if row.knob else f"app.fold({row.group!r})")


def _rule(config: RunConfig, more: str, width: int) -> Line:
    """Between the list and its notes: the samples of an update where they are not the batch, and what is below."""
    size = config.effective_batch_size if config.says("batch_size") else config.batch_size
    of_all = "" if config.gpus is not None else " × GPUs"
    texts = ["─"]
    if size != config.batch_size or of_all:
        texts = [f"─ {name} {size}{of_all} " for name in ("effective batch", "effective")] + texts
    said = next((text for text in texts if cell_len(text) + len(more) <= width), "─")
    return ends([(said, "muted" if len(said) > 1 else "frame")], [(more, "muted")], width, ("─", "frame"))
