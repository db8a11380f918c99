"""Choosing what to export: rows, format, and a file or the clipboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.compare.scaling import OneGpu, Scaling
from engine.contract.records import RunRecord
from engine.export import export
from engine.export.closings import closings
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.state.paths import free_path

if TYPE_CHECKING:
    from engine.history.plans import StoredPlan

_FORMATS = {
    "Markdown": (".md", "a table for a page; also aligned as plain text"),
    "LaTeX": (".tex", "a booktabs table for a paper"),
    "CSV": (".csv", "every knob and figure, for a spreadsheet"),
    "JSON": (".json", "every knob and figure, for another program"),
}
_STEM = "traintop-runs"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to hand over; no `path`: the clipboard."""

    text: str
    n_rows: int
    format_name: str
    path: Path | None
    query: str
    """The words that the rows were chosen by; empty where all were taken."""


class ExportScreen(Dialog[Wanted]):
    """Dismissed with what was chosen."""

    TITLE = "The export"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "cancel"),
        Binding("m", "rows", "marked or all"),
        Binding("c", "copy", "copy"),
    ]

    def __init__(
        self,
        marked: Sequence[RunRecord],
        every: Sequence[RunRecord],
        baseline: RunRecord | None,
        query: str = "",
        plans: Sequence[StoredPlan] = (),
    ) -> None:
        super().__init__()
        self._marked, self._all, self._baseline, self._query = marked, every, baseline, query
        self._plans = plans
        self._only_marked = bool(marked)
        self._format = next(iter(_FORMATS))
        self._overwrite: str | None = None

    def compose(self) -> ComposeResult:
        """Formats, rows, and the file's name."""
        with Vertical(classes="dialog"):
            yield Static("Export", classes="heading", markup=False)
            options = (Option(f"{name:<10} {about}", id=name) for name, (_, about) in _FORMATS.items())
            yield OptionList(*options, markup=False, classes="more")
            yield Static(self._which(), id="which", markup=False)
            field = Input(str(free_path(_STEM, ".md")), select_on_focus=False)
            field.cursor_blink = False
            yield field
            yield Static(_KEYS, id="hint", classes="why last", markup=False)

    def _which(self) -> str:
        baseline = f", Δ to run {self._baseline.run_id}" if self._baseline is not None else ""
        if not self._marked:
            return f"Rows: {self._every}{baseline}   (t marks rows in the table)"
        kinds = {True: f"marked {len(self._marked)}", False: self._every}
        both = "  ".join(f"[{text}]" if only == self._only_marked else text for only, text in kinds.items())
        return f"Rows: {both}{baseline}   (m changes)"

    @property
    def _every(self) -> str:
        """All rows of the table; with a filter, which those are."""
        return f"the {len(self._all)} that have {self._query!r}" if self._query else f"all {len(self._all)}"

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another format has another ending."""
        before, self._format = _FORMATS[self._format][0], event.option_id or self._format
        field = self.query_one(Input)
        name = field.value.removesuffix(before)
        if event.option_id and name.startswith(_STEM):
            field.value = str(free_path(_STEM, _FORMATS[self._format][0]))
        elif event.option_id and name != field.value:
            field.value = name + _FORMATS[self._format][0]

    def action_rows(self) -> None:
        """Marked rows, or all that are shown."""
        self._only_marked = not self._only_marked and bool(self._marked)
        self.query_one("#which", Static).update(self._which())

    def action_copy(self) -> None:
        """Take the clipboard."""
        self._take(None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Write the file."""
        self._write()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Write the file of that name."""
        self._write()

    def _write(self) -> None:
        name = self.query_one(Input).value.strip()
        path = Path(name).expanduser()
        problem = ""
        if not name or path.is_dir():
            problem = "Give the file a name."
        elif path.exists() and self._overwrite != name:
            problem, self._overwrite = f"{clean(name, 60)} is there already: Enter once more replaces it.", name
        if problem:
            hint = self.query_one("#hint", Static)
            hint.add_class("refusal")
            hint.update(problem)
            return
        self._take(path)

    def _take(self, path: Path | None) -> None:
        rows = list(self._marked if self._only_marked else self._all)
        base, scaling = self._baseline, OneGpu(self._all, self._baseline).scaling
        text = _written(self._format, rows, [base] if base is not None else [], self._plans, scaling)
        query = "" if self._only_marked else self._query
        self.dismiss(Wanted(text, len(rows), self._format, path, query))


_KEYS = "↑↓ format   Tab file name   Enter writes the file   c copies to the clipboard"


def _written(
    name: str,
    rows: Sequence[RunRecord],
    baselines: Sequence[RunRecord],
    plans: Sequence[StoredPlan],
    scaling: Scaling,
) -> str:
    if name == "JSON":
        return export.to_json(rows, scaling)
    if name == "CSV":
        return export.to_csv(rows, baselines, scaling)
    write = export.to_latex if name == "LaTeX" else export.to_markdown
    return write(rows, baselines, closings=closings(plans, rows), scaling=scaling)
