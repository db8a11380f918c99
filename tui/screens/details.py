"""A text to read: an error, or everything known about one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from engine.contract.config import KNOBS
from engine.contract.numbers import duration, loss, mib, number, percent, plus_minus, rate
from engine.contract.records import Outcome, RunRecord
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.state.knobs import ORDER, shown
from tui.state.state import OUTCOME_WORDS

LIMIT = 2000


class DetailsScreen(Dialog[None]):
    """A heading and lines of text; any of the usual keys closes it."""

    TITLE = "The text"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,space", "dismiss", "close")]

    def __init__(self, heading: str, lines: Sequence[str], *, bad: bool = False) -> None:
        super().__init__()
        self._heading = clean(heading, 200)
        self._lines = [clean(line, LIMIT) for line in lines]
        self._bad = bad

    def compose(self) -> ComposeResult:
        """The text, scrolled when it is long."""
        with Vertical(classes="dialog -bad" if self._bad else "dialog"):
            yield Static(self._heading, classes="heading", markup=False)
            with VerticalScroll():
                yield Static("\n".join(self._lines), classes="last", markup=False)


def run_details(row: RunRecord, note: str = "") -> DetailsScreen:
    """A run's figures, its knobs, and how to do it elsewhere."""
    from engine.export.hand_over import command_line, training_arguments

    steady = plus_minus(row.steady_samples_per_s, row.steady_spread)
    figures = {
        "outcome": OUTCOME_WORDS[row.outcome],
        "device": row.device.name if row.device else "–",
        "updates": f"{number(row.updates)} of {number(row.planned_updates)}",
        "time": f"{duration(row.train_runtime_s)} s",
        "samples/s": f"{steady} steady, {rate(row.samples_per_s)} mean",
        "tokens/s": f"{rate(row.tokens_per_s)} steady, MFU {percent(None if row.mfu is None else row.mfu * 100)}",
        "loss": f"{loss(row.train_loss)} mean, {loss(row.last_loss)} last",
        "eval": f"accuracy {loss(row.eval_accuracy)}, loss {loss(row.eval_loss)}",
        "parameters": number(row.n_parameters),
        "peak MiB": f"used {mib(row.peak_used)}, reserved {mib(row.peak_reserved)}, allocated {mib(row.peak_allocated)}"
        f", of {mib(row.memory_total)}",
    }
    lines = [f"“{note}”", ""] if note else []
    lines += [row.message, ""] if row.message else []
    lines += [f"{name:<16}{value}" for name, value in figures.items()]
    lines += ["", *(f"{KNOBS[name].label:<16}{shown(KNOBS[name], getattr(row.config, name))}" for name in ORDER)]
    lines += ["", "The command that does it again (y copies it):", command_line(row.config)]
    lines += ["", "As TrainingArguments:", *training_arguments(row.config).splitlines()]
    bad = row.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)
    return DetailsScreen(f"Run {row.run_id}", lines, bad=bad)
