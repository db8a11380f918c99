"""The columns of the results table for runs that answer."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract import answer_entries as entries
from engine.contract import figures
from engine.contract.figures import Entry
from engine.contract.records import RunRecord
from tui.panes.columns import DELTA, Column, Wanted, column_of, short_model, where_differs, where_known


def _some(entry: Entry) -> Wanted:
    """Some row has more than none of it."""
    return lambda rows: any(bool(entry.read(row)) for row in rows)


def _writes(rows: Sequence[RunRecord]) -> bool:
    return any(row.config.task != "classification" for row in rows)


def _scores(rows: Sequence[RunRecord]) -> bool:
    return any(row.config.task == "classification" for row in rows)


def _guesses(rows: Sequence[RunRecord]) -> bool:
    return any(row.answer is not None and row.answer.proposed is not None for row in rows)


ANSWER_COLUMNS: tuple[Column, ...] = (
    column_of(figures.MODEL, 6, 80, short_model),
    column_of(figures.WEIGHTS, 7, 72, is_wanted=where_differs(figures.WEIGHTS, "fp32")),
    column_of(figures.BATCH, 5, 90),
    column_of(entries.PROMPT, 6, 52, is_wanted=_writes),
    column_of(entries.NEW, 5, 50, is_wanted=_writes),
    column_of(entries.KV, 7, 75, is_wanted=_writes),
    column_of(entries.SPECULATION, 9, 76, is_wanted=where_differs(entries.SPECULATION, "off")),
    column_of(figures.TIME, 6, 30),
    column_of(entries.TG, 6, 96, is_wanted=_writes),
    column_of(entries.PP, 6, 48, is_wanted=_writes),
    column_of(entries.TTFT_P50, 7, 88, is_wanted=_writes),
    column_of(entries.TTFT_P99, 8, 36, is_wanted=_writes),
    column_of(entries.TPOT_P50, 7, 70, is_wanted=_writes),
    column_of(entries.TPOT_P99, 8, 46, is_wanted=_writes),
    column_of(figures.SPEED, 9, 95, is_wanted=_scores),
    column_of(entries.PADDING, 7, 60, is_wanted=_some(entries.PADDING)),
    column_of(entries.PER_FORWARD, 7, 62, is_wanted=_guesses),
    column_of(entries.ACCEPTANCE, 4, 64, is_wanted=where_known(entries.ACCEPTANCE)),
    column_of(entries.HIT_RATE, 5, 66, is_wanted=where_known(entries.HIT_RATE)),
    column_of(entries.KV_MIB, 6, 78, is_wanted=_writes),
    column_of(figures.MEMORY, 6, 84),
    column_of(figures.SHARE, 4, 28),
    column_of(entries.AGREEMENT, 5, 74, is_wanted=where_known(entries.AGREEMENT)),
    column_of(entries.PER_TOKEN, 7, 34, is_wanted=where_known(entries.PER_TOKEN)),
    Column(DELTA, 6, 82, lambda row, base, deltas: deltas.generation(row, base)),
    Column("Δ MiB", 6, 47, lambda row, base, deltas: deltas.memory(row, base)),
)
"""`Δ` is that of the tokens/s that are written, of a classifier of the samples/s."""
