"""The columns of the results table, and which of them have room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.contract.config import KNOBS
from engine.contract.numbers import duration, loss, mib, number, rate
from engine.contract.records import RunRecord
from tui.drawing.text import clean
from tui.state.deltas import Deltas
from tui.state.knobs import short_name, shown
from tui.state.result_rows import speed_of

Cell = Callable[[RunRecord, RunRecord | None, Deltas], str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, its width, whether it gives way early, and what its cells say."""

    heading: str
    width: int
    keep: int
    """Columns with the smallest number are left out first where the table is narrow."""
    cell: Cell
    left: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("model", 6, 80, lambda row, base, deltas: _model(row), left=True),
    Column("batch", 5, 90, lambda row, base, deltas: str(row.config.batch_size)),
    Column("acc", 3, 50, lambda row, base, deltas: str(row.config.gradient_accumulation_steps)),
    Column("ckpt", 4, 60, lambda row, base, deltas: _checkpointing(row), left=True),
    Column("prec", 4, 61, lambda row, base, deltas: row.config.precision, left=True),
    Column("time s", 6, 55, lambda row, base, deltas: duration(row.train_runtime_s)),
    Column("samples/s", 9, 95, lambda row, base, deltas: rate(speed_of(row))),
    Column("peak MiB", 8, 94, lambda row, base, deltas: mib(row.peak_used)),
    Column("%", 4, 40, lambda row, base, deltas: _percent(row)),
    Column("loss", 5, 45, lambda row, base, deltas: loss(row.train_loss)),
    Column("eval", 5, 30, lambda row, base, deltas: loss(row.eval_accuracy)),
    Column("Δ", 6, 70, lambda row, base, deltas: deltas.speed(row, base)),
    Column("Δ MiB", 6, 48, lambda row, base, deltas: deltas.memory(row, base)),
)
DIFFERENCES = ("Δ", "Δ MiB")
"""Columns that need a baseline; `Δ` is that of samples/s."""


def columns_for(width: int, taken: int, with_baseline: bool) -> list[Column]:
    """The columns for a table of `width` of which `taken` are used: those that matter least are left out."""
    columns = [column for column in COLUMNS if with_baseline or column.heading not in DIFFERENCES]
    while columns and taken + sum(column.width + 1 for column in columns) > width:
        columns.remove(min(columns, key=lambda column: column.keep))
    return columns


def _model(row: RunRecord) -> str:
    return clean(short_name(row.config.model), 40).removeprefix("bert-")


def _checkpointing(row: RunRecord) -> str:
    value = row.config.gradient_checkpointing
    return "2nd" if value == "every-second" else shown(KNOBS["gradient_checkpointing"], value)


def _percent(row: RunRecord) -> str:
    """The peak's share of the device's memory."""
    if row.peak_used is None or not row.memory_total:
        return number(None)
    share = row.peak_used / row.memory_total * 100
    return number(share, 1 if share < 99.95 else 0)
