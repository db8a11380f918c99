"""The columns of the results table, and which of them have room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.contract import figures
from engine.contract.figures import CPU, Entry, heading_of, is_virtual, short_of
from engine.contract.records import RunRecord
from tui.drawing.text import clean
from tui.state.deltas import Deltas
from tui.state.knobs import short_name

DELTA, SCALING = "Δ", "scaling"

Cell = Callable[[RunRecord, RunRecord | None, Deltas], str]
Wanted = Callable[[Sequence[RunRecord]], bool]


def always(rows: Sequence[RunRecord]) -> bool:
    """Whatever the rows are."""
    return True


def where_known(entry: Entry) -> Wanted:
    """Some row knows it."""
    return lambda rows: any(entry.read(row) is not None for row in rows)


def where_differs(entry: Entry, usual: object) -> Wanted:
    """Some row has another value than the usual one."""
    return lambda rows: any(entry.read(row) != usual for row in rows)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, its width, whether it gives way early, and what its cells say."""

    heading: str
    width: int
    keep: int
    """Columns with the smallest number are left out first where the table is narrow."""
    cell: Cell
    entry: Entry | None = None
    """What it tells of a run; None where it tells a difference."""
    is_wanted: Wanted = always
    """Whether it has something to say of these rows."""

    @property
    def left(self) -> bool:
        """Whether its cells are aligned on the left."""
        return self.entry is not None and self.entry.left

    def named(self, rows: Sequence[RunRecord]) -> str:
        """Its heading over these rows, the short one where there is no room for it."""
        if self.entry is None:
            return f"{self.heading} {CPU}" if self.heading == DELTA and is_virtual(rows) else self.heading
        text = heading_of(self.entry, rows)
        return text if len(text) <= self.width else short_of(self.entry, rows) or text


def column_of(
    entry: Entry,
    width: int,
    keep: int,
    cell: Callable[[RunRecord], str] | None = None,
    is_wanted: Wanted = always,
) -> Column:
    """The column of an entry."""
    text = cell or entry.of
    return Column(entry.heading, width, keep, lambda row, base, deltas: text(row), entry, is_wanted)


def short_model(row: RunRecord) -> str:
    return clean(short_name(row.config.model), 40).removeprefix("bert-")


def _checkpointing(row: RunRecord) -> str:
    return "2nd" if row.config.gradient_checkpointing == "every-second" else figures.CHECKPOINTING.of(row)


def _several(rows: Sequence[RunRecord]) -> bool:
    return any(map(figures.is_on_several, rows))


def _ways(rows: Sequence[RunRecord]) -> bool:
    return len({row.config.parallel for row in rows if figures.is_on_several(row)}) > 1


_has_card = where_known(figures.CARD_SPEED)

COLUMNS: tuple[Column, ...] = (
    column_of(figures.MODEL, 6, 80, short_model),
    column_of(figures.BATCH, 5, 90),
    column_of(figures.ACCUMULATION, 3, 50),
    column_of(figures.CHECKPOINTING, 4, 60, _checkpointing),
    column_of(figures.COMPUTED_IN, 4, 61),
    column_of(figures.WEIGHTS, 7, 44, is_wanted=where_differs(figures.WEIGHTS, "fp32")),
    column_of(figures.GPUS, 4, 91, is_wanted=_several),
    column_of(figures.PARALLEL, 8, 62, is_wanted=_ways),
    column_of(figures.TIME, 6, 55),
    column_of(figures.SPEED, 9, 95),
    column_of(figures.CARD_SPEED, 7, 79, is_wanted=_has_card),
    column_of(figures.MEMORY, 6, 94),
    column_of(figures.SHARE, 4, 40),
    column_of(figures.LOSS, 5, 45),
    column_of(figures.ACCURACY, 5, 30),
    column_of(figures.MACRO_F1, 5, 29, is_wanted=where_known(figures.MACRO_F1)),
    column_of(figures.PER_SAMPLE, 5, 35, is_wanted=where_known(figures.ENERGY)),
    column_of(replace(figures.WAITING, short="wait"), 4, 42, is_wanted=_several),
    Column(SCALING, 7, 68, lambda row, base, deltas: deltas.scaling(row), is_wanted=_several),
    Column(DELTA, 6, 70, lambda row, base, deltas: deltas.speed(row, base)),
    Column("Δ card", 6, 69, lambda row, base, deltas: deltas.card(row, base), is_wanted=_has_card),
    Column("Δ MiB", 6, 48, lambda row, base, deltas: deltas.memory(row, base)),
)
"""`Δ` is that of samples/s. The card's columns are there for runs on virtual GPUs alone, the weights' where some are
not in fp32, those about several GPUs where some run is on several, and how they work together where that differs."""
_KNOWN = 46
"""What an accuracy is kept for where a run has one: before its share of the memory and its loss."""
_COMPARED = {
    DELTA: 71,
    "Δ MiB": 66,
    figures.ACCURACY.heading: 63,
    figures.ACCUMULATION.heading: 59,
    figures.LOSS.heading: 58,
    figures.CARD_SPEED.heading: 57,
    "Δ card": 64,
    figures.TIME.heading: 45,
}
"""The same beside a baseline: what was turned, what it cost and what it saved come before the figures themselves."""


def columns_for(
    width: int,
    taken: int,
    rows: Sequence[RunRecord],
    base: RunRecord | None,
    deltas: Deltas,
    columns: Sequence[Column],
) -> list[tuple[Column, list[str]]]:
    """The columns for a table of `width` of which `taken` are used, each with its cells for `rows`.

    A number is never cut: its column grows. Those that matter least are left out, and a long heading gets the room
    that is left.
    """
    drawn = [
        _grown(column, [column.cell(row, base, deltas) for row in rows], rows)
        for column in columns
        if (base is not None or column.entry is not None or column.heading == SCALING) and column.is_wanted(rows)
    ]
    if any(row.eval_accuracy is not None for row in rows):
        drawn = [
            (replace(column, keep=_KNOWN) if column.entry is figures.ACCURACY else column, c) for column, c in drawn
        ]
    if base is not None:
        known = any(row.eval_accuracy is not None for row in rows)
        drawn = [
            (column if column.entry is figures.ACCURACY and not known else _beside_baseline(column), cells)
            for column, cells in drawn
        ]
    while drawn and taken + sum(column.width + 1 for column, _ in drawn) > width:
        drawn.remove(min(drawn, key=lambda pair: pair[0].keep))
    spare = width - taken - sum(column.width + 1 for column, _ in drawn)
    for index, (column, cells) in enumerate(drawn):
        more = len(column.heading) - column.width
        if 0 < more <= spare:
            drawn[index], spare = (replace(column, width=len(column.heading)), cells), spare - more
    return drawn


def _beside_baseline(column: Column) -> Column:
    return replace(column, keep=_COMPARED.get(column.heading, column.keep))


def _grown(column: Column, cells: list[str], rows: Sequence[RunRecord]) -> tuple[Column, list[str]]:
    """As wide as its numbers, and as the least that says whose time it is: "CPU TTFT" is not "CPU TT…"."""
    least = short_of(column.entry, rows) if column.entry is not None and column.entry.is_timed else ""
    widest = 0 if column.left else max(len(least), *map(len, cells)) if cells else len(least)
    return (replace(column, width=widest) if widest > column.width else column), cells
