"""A text to read: an error, or everything known about one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from engine.contract import answer_entries as entries
from engine.contract import figures
from engine.contract.accuracy import accuracy_sentence, no_better
from engine.contract.best import best_sentence
from engine.contract.conditions import Conditions
from engine.contract.config import KNOBS
from engine.contract.marks import sentences, slowed
from engine.contract.numbers import UNKNOWN, mib, n_of
from engine.contract.own_data import data_name, is_own_file
from engine.contract.records import Outcome, RunRecord
from tui.drawing.class_table import class_table
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.screens.script_details import FIGURES as OF_SCRIPTS
from tui.screens.script_details import knob_lines, script_lines
from tui.state.knob_list import ORDER
from tui.state.knobs import said

LIMIT = 2000
_LABEL = 18
"""Cells of a figure's or a knob's name."""
_WIDEST, _AROUND = 96, 8
"""Cells of the wide dialog at most, and those of its edges and of the bar beside long text."""


class DetailsScreen(Dialog[None]):
    """A heading and lines of text; any of the usual keys closes it."""

    TITLE = "The text"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,space", "dismiss", "close")]

    def __init__(self, heading: str, lines: Sequence[str], *, bad: bool = False, wide: bool = False) -> None:
        super().__init__()
        self._heading = clean(heading, 200)
        self._lines = [clean(line, LIMIT) for line in lines]
        self._looks = "dialog" + (" -bad" if bad else "") + (" -wide" if wide else "")

    def compose(self) -> ComposeResult:
        """The text, scrolled when it is long."""
        # the heading scrolls too: beside it the text would be higher than what is left, and its end out of reach
        with Vertical(classes=self._looks), VerticalScroll():
            yield Static(self._heading, classes="heading", markup=False)
            yield Static("\n".join(self._lines), classes="last", markup=False)


def run_details(row: RunRecord, columns: int, note: str = "", scaling: str = UNKNOWN) -> DetailsScreen:
    """A run's figures, its knobs, and how to do it elsewhere, on a terminal of so many columns."""
    from engine.export.hand_over import command_line

    lines = [f"“{note}”", ""] if note else []
    lines += [row.message, ""] if row.message else []
    lines += [line for sentence in sentences(row) for line in (sentence, "")]
    lines += [*_figures(row), *_several(row, scaling)]
    lines += ["", *script_lines(row, _LABEL)] if row.config.is_script else []
    told = (accuracy_sentence(row) if no_better(row) else "", best_sentence(row))
    lines += [line for sentence in told if sentence for line in ("", sentence)]
    if row.eval_confusion is not None:
        room = min(_WIDEST, columns * 96 // 100) - _AROUND
        lines += ["", *class_table(row.eval_confusion, row.label_names or (), room)]
    knobs = [f"{KNOBS[name].label:<{_LABEL}}{said(row.config, name)}" for name in ORDER[row.config.job]]
    lines += ["", *(knob_lines(row, _LABEL) if row.config.is_script else knobs)]
    lines += ["", "The command that does it again (y copies it):", command_line(row.config)]
    if row.config.trains:
        script = f"traintop script --run {row.run_id}"
        lines += ["", "As a script for the Trainer, with the same losses (X copies it):", script]
    bad = row.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)
    return DetailsScreen(f"Run {row.run_id}", lines, bad=bad, wide=True)


def _figures(row: RunRecord) -> list[str]:
    """Its figures by their headings, those that belong together in one line."""
    spread = row.steady_spread if figures.steady_of(row) is not None else None
    lines = _place(row)
    if row.config.trains:
        lines.append(f"{'data':<{_LABEL}}{_data(row)}")
    told = _ANSWERED if row.config.answers else OF_SCRIPTS if row.config.is_script else _LINES
    for first, *others in told:
        if (first in _WHERE_KNOWN or row.config.answers) and first.read(row) is None:
            continue
        text = first.with_spread(figures.speed_of(row), spread) if first is figures.SPEED else first.of(row)
        beside = (f"{figures.heading_of(entry, [row])} {entry.of(row)}" for entry in others)
        lines.append(f"{figures.heading_of(first, [row]):<{_LABEL}}{'   '.join((f'{text:<14}', *beside))}".rstrip())
    return [*lines, *_met(row)]


def _several(row: RunRecord, scaling: str) -> list[str]:
    """Of a run on several GPUs: how they worked together, and what each of them held at most."""
    if not figures.is_on_several(row):
        return []
    way = f"{figures.GPUS.of(row)} × {figures.PARALLEL.of(row)}"
    whole = f"effective batch {row.config.effective_batch_size}"
    told = (whole, f"waiting {figures.WAITING.of(row)}", f"scaling {scaling}")
    lines = ["   ".join((f"{'GPUs':<{_LABEL}}{way:<14}", *told))]
    if row.peak_used_by_rank:
        each = "   ".join(f"r{rank} {mib(peak)}" for rank, peak in enumerate(row.peak_used_by_rank))
        lines.append(f"{'MiB by rank':<{_LABEL}}{each}")
    return lines


def _met(row: RunRecord) -> list[str]:
    """What it met on its card, and where its energy is from, as far as that is known."""
    lines = []
    if row.energy_source is not None:
        source = "the card's counter" if row.energy_source == "counter" else "readings of its power"
        beside = f"{figures.PER_SAMPLE.unit} {figures.PER_SAMPLE.of(row)}   ({source})"
        lines.append(f"{figures.ENERGY.heading:<{_LABEL}}{figures.ENERGY.of(row):<14}   {beside}")
    met = row.conditions
    if met is not None and met.slowdowns is not None:
        lines.append(f"{'slowed down':<{_LABEL}}{slowed(met.slowdowns) or 'never'}")
    return lines


def _beside(met: Conditions | None) -> str | None:
    """Who else was on its card, in short; None where that is unknown."""
    if met is None or met.neighbours is None:
        return None
    n = len(met.neighbours)
    return f"{n_of(n, 'other')}, {mib(met.peak_others)} MiB at most" if n else "nobody"


def _place(row: RunRecord) -> list[str]:
    """Where it ran, and who else was there."""
    device = row.device
    on = f"{device.name}   {device.numbers}".rstrip() if device else UNKNOWN
    if figures.is_virtual([row]):
        on += ", virtual: this CPU computes in its place"
    told = {
        "device": on,
        "card": device.uuid if device else None,
        "host": row.host,
        "software": device.software if device else None,
        "beside it": _beside(row.conditions),
        "goes on with": None if row.resumed_from is None else f"run {row.resumed_from} after update {row.resumed_at}",
    }
    return [f"{name:<{_LABEL}}{text}" for name, text in told.items() if text is not None]


def _data(row: RunRecord) -> str:
    """What it trained on; a file by its whole path, which tells apart those of one name."""
    name = data_name(row.config)
    where = row.config.data if is_own_file(row.config.workload, row.config.data) else None
    counted = figures.DATA.of(row)
    return f"{counted}   {where}" if where is not None and where != name else counted


_WHERE_KNOWN = (figures.CARD_SPEED, figures.MACRO_F1)
"""First of lines that a training has only where they are known, as all of an answering run are."""
_ANSWERED = (
    (figures.STATUS,),
    (entries.REQUESTS, figures.TIME),
    (entries.TG, entries.PP),
    (entries.TTFT_P50, entries.TTFT_P99),
    (entries.TPOT_P50, entries.TPOT_P99),
    (entries.E2E_P50, entries.E2E_P99),
    (figures.SPEED, entries.PADDING),
    (entries.PER_FORWARD,),
    (entries.ACCEPTANCE,),
    (entries.HIT_RATE, entries.HELD),
    (entries.KV_MIB, entries.WEIGHTS_MIB),
    (entries.AGREEMENT, entries.PERPLEXITY),
    (entries.COMPILE,),
    (entries.PER_TOKEN,),
    (figures.PARAMETERS,),
    (figures.MEMORY, figures.SHARE, figures.TOTAL),
    (figures.RESERVED, figures.ALLOCATED),
    (figures.THREADS, figures.HOST_BUSY),
)
_LINES = (
    (figures.STATUS,),
    (figures.UPDATES, figures.PLANNED),
    (figures.TIME,),
    (figures.SPEED, figures.MEAN_SPEED),
    (figures.CARD_SPEED, figures.CARD_TIME),
    (figures.TOKENS, figures.MFU),
    (figures.LOSS, figures.LAST_LOSS),
    (figures.ACCURACY, figures.INTERVAL),
    (figures.N_EVAL, figures.EVAL_LOSS),
    (figures.MACRO_F1, figures.BEST_UPDATE),
    (figures.PARAMETERS,),
    (figures.MEMORY, figures.SHARE, figures.TOTAL),
    (figures.RESERVED, figures.ALLOCATED),
    (figures.THREADS, figures.HOST_BUSY),
)
