"""The columns of the results table for runs of the user's own scripts."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract import figures
from engine.contract import script_entries as entries
from engine.contract.config import KEEPING
from engine.contract.figures import Entry
from engine.contract.records import RunRecord
from tui.panes.columns import DELTA, Column, column_of, where_known

_KEPT: dict[str, int] = {
    entries.BATCH.name: 90,
    entries.ACCUMULATION.name: 52,
    figures.TIME.name: 55,
    figures.SPEED.name: 95,
    entries.UPDATE_SPEED.name: 93,
    figures.TOKENS.name: 42,
    figures.MEMORY.name: 94,
    figures.SHARE.name: 40,
    figures.LOSS.name: 60,
    figures.PER_SAMPLE.name: 35,
    figures.WAITING.name: 44,
    entries.EXIT.name: 25,
}
"""What gives way last where the table is narrow."""
_USUAL = (entries.BATCH.name, entries.ACCUMULATION.name)
_OWN, _TURNED, _SCORE, _ARGUMENTS = 75, 65, 58, 54
_WIDTHS: dict[str, int] = {
    entries.BATCH.name: 5,
    entries.ACCUMULATION.name: 3,
    figures.SPEED.name: 9,
    entries.UPDATE_SPEED.name: 9,
    figures.TOKENS.name: 8,
    figures.SHARE.name: 4,
    figures.LOSS.name: 5,
    figures.PER_SAMPLE.name: 5,
    entries.EXIT.name: 4,
}
_NUMBER, _WIDEST_OWN, _WIDEST_NAME, _WIDEST_ARGUMENTS = 6, 10, 16, 20


def script_columns(rows: Sequence[RunRecord]) -> list[Column]:
    """What the commands carry, what their own knobs are called and what their trainers log: it depends on the rows."""
    own = entries.own(rows)
    names = {entry.name for entry in own}
    turned = [
        column_of(entry, min(_WIDEST_OWN, len(entry.heading)), _OWN) if entry.name in names else _column(entry, _TURNED)
        for entry in entries.knobs(rows)
        if entry.name in names or entry.name in _USUAL or _differs(entry, rows)
    ]
    told = [_column(entry, _SCORE) for entry in entries.entries(rows)]
    arguments = [column_of(each, _WIDEST_ARGUMENTS, _ARGUMENTS) for each in entries.arguments(rows)]
    return [
        column_of(entries.NAME, _width_of_names(rows), 80),
        *arguments,
        *turned,
        *told,
        Column(DELTA, 6, 72, lambda row, base, deltas: deltas.speed(row, base), is_wanted=where_known(figures.SPEED)),
        Column("Δ MiB", 6, 48, lambda row, base, deltas: deltas.memory(row, base)),
    ]


def _column(entry: Entry, keep: int) -> Column:
    return column_of(entry, _WIDTHS.get(entry.name, min(_NUMBER, len(entry.heading))), _KEPT.get(entry.name, keep))


def _differs(entry: Entry, rows: Sequence[RunRecord]) -> bool:
    """Whether it tells some of the rows apart; what is kept on the disk is none of a run's doing."""
    return entry.name not in KEEPING and len({entry.read(row) for row in rows}) > 1


def _width_of_names(rows: Sequence[RunRecord]) -> int:
    names = (entries.NAME.heading, *(entries.NAME.of(row) for row in rows))
    return min(_WIDEST_NAME, max(map(len, names)))
