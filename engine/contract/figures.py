"""A run's line in a table, entry by entry: heading, unit, value, how it is written. Standard library only.

Every table of runs takes its columns from here, on the screen, on the command line and in what is exported. It only
chooses which, in which order and how wide, and how it shows spreads or differences: one run has the same figures in
all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from engine.contract.accuracy import accuracy_interval, interval_text, no_better
from engine.contract.config import KNOBS, Value
from engine.contract.knob import shown
from engine.contract.numbers import UNKNOWN, digits_of, duration, fixed, loss, number, percent, plus_minus, rate
from engine.contract.own_data import data_name, work_of
from engine.contract.records import Outcome, RunRecord
from engine.contract.text import one_line
from engine.contract.throughput import ENOUGH_UPDATES, warmup_updates
from engine.gpus.units import to_mib


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One thing that a table says of a run."""

    name: str
    """The field of `run_finished` in JSON and the column of the CSV, for those that are there: names that stay."""
    label: str = ""
    unit: str = ""
    short: str = ""
    """The heading where there is no room for it all; of memory whatever the devices call theirs."""
    read: Callable[[RunRecord], Value]
    """The value, in `unit`; None where it is unknown."""
    write: Callable[[Any], str]
    """A value as text, "–" for None."""
    digits: int | None = None
    """Decimals of a value with its spread; None: as many as `rate` has."""
    key: Callable[[RunRecord], Value] | None = None
    """What rows are sorted by, where it is not the value."""
    mark: Callable[[RunRecord], str] = lambda record: ""
    """What is written behind the value."""
    left: bool = False
    """Words are aligned on the left, numbers on the right."""

    @property
    def heading(self) -> str:
        """Label and unit, "time s"; see `heading_of` for memory."""
        return f"{self.label} {self.unit}".strip()

    def of(self, record: RunRecord) -> str:
        """The cell of a run."""
        return self.write(self.read(record)) + self.mark(record)

    def sort_key(self, record: RunRecord) -> Value:
        """What a run is sorted by; None where it is unknown."""
        return (self.key or self.read)(record)

    def with_spread(self, value: float | None, spread: float | None) -> str:
        """A value and its spread, "66.70 ±0.32"; the value alone where the spread is unknown."""
        if value is None or spread is None or not math.isfinite(value):
            return self.write(value)
        digits = self.digits
        if digits is not None and 0 < abs(value) < 10**-digits:
            digits = digits_of(value)  # a loss of 0.00029 is not 0.000
        return plus_minus(value, spread, digits)


def knob_entry(name: str) -> Entry:
    """A knob as an entry; those of every table have a short heading."""
    knob = KNOBS[name]
    return Entry(
        name=name,
        label=_SHORT.get(name, knob.label),
        unit="" if name in _SHORT else knob.unit,
        read=lambda record: getattr(record.config, name),
        write=lambda value: shown(knob, value),
        left=knob.kind not in (int, float),
    )


_SHORT = {
    "batch_size": "batch",
    "gradient_accumulation_steps": "acc",
    "gradient_checkpointing": "ckpt",
    "precision": "prec",
}


def steady_of(record: RunRecord) -> float | None:
    """Median samples/s after warm-up; None with fewer than `ENOUGH_UPDATES` updates behind it."""
    updates = record.updates - warmup_updates(record.planned_updates or record.updates)
    return record.steady_samples_per_s if updates >= ENOUGH_UPDATES else None


def speed_of(record: RunRecord) -> float | None:
    """A run's samples/s: the steady median where it is known, else of the whole training."""
    steady = steady_of(record)
    return record.samples_per_s if steady is None else steady


def share_of(used: float | None, total: float | None) -> float | None:
    """Memory used in percent of the whole; None where one is unknown."""
    return 100 * used / total if used is not None and total else None


def status_of(record: RunRecord) -> str:
    """How a run ended, in words; one that failed or did not fit says in which phase."""
    if record.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED) and record.failed_phase:
        return f"{record.outcome.words} in {record.failed_phase.noun}"
    return record.outcome.words


NO_BETTER = "="
"""Behind an accuracy that is no better than always answering the majority class."""


def _bound(record: RunRecord, which: int) -> float | None:
    """The lower (0) or upper (1) end of the accuracy's 95 % interval."""
    bounds = accuracy_interval(record)
    return None if bounds is None else bounds[which]


RUN_ID = Entry(name="run_id", label="#", read=lambda record: record.run_id, write=str)
MODEL = knob_entry("model")
BATCH = knob_entry("batch_size")
ACCUMULATION = knob_entry("gradient_accumulation_steps")
CHECKPOINTING = knob_entry("gradient_checkpointing")
PRECISION = knob_entry("precision")

TIME = Entry(name="train_runtime_s", label="time", unit="s", read=lambda r: r.train_runtime_s, write=duration, digits=2)
SPEED = Entry(name="speed", unit="samples/s", read=speed_of, write=rate)
MEAN_SPEED = Entry(name="samples_per_s", label="mean", unit="samples/s", read=lambda r: r.samples_per_s, write=rate)
"""Of the whole training, as the lecture and the Trainer have it."""
TOKENS = Entry(name="tokens_per_s", unit="tokens/s", read=lambda r: r.tokens_per_s, write=rate)
MFU = Entry(
    name="mfu", label="MFU", read=lambda r: r.mfu, write=lambda v: percent(None if v is None else 100 * v)
)  # 0 to 1
UPDATES = Entry(name="updates", label="updates", read=lambda r: r.updates, write=number)
PLANNED = Entry(name="planned_updates", label="planned updates", read=lambda r: r.planned_updates, write=number)
LOSS = Entry(name="train_loss", label="loss", read=lambda r: r.train_loss, write=loss, digits=3)
LAST_LOSS = Entry(name="last_loss", label="last loss", read=lambda r: r.last_loss, write=loss, digits=3)
ACCURACY = Entry(
    name="eval_accuracy",
    label="accuracy",
    short="eval",
    read=lambda r: r.eval_accuracy,
    write=lambda v: fixed(v, 3),
    digits=3,
    mark=lambda r: NO_BETTER if no_better(r) else "",
)  # 0 to 1
INTERVAL = Entry(name="eval_accuracy_interval", label="95 % interval", read=interval_text, write=lambda v: v or UNKNOWN)
"""Of the accuracy, after Wilson."""
MAJORITY = Entry(
    name="eval_majority", label="majority class", read=lambda r: r.eval_majority, write=lambda v: fixed(v, 3)
)  # 0 to 1
N_EVAL = Entry(name="n_eval", label="held out", read=lambda r: r.n_eval, write=number)
N_TRAIN = Entry(name="n_train", label="trained on", read=lambda r: r.n_train, write=number)
DATA = Entry(
    name="work",
    label="data",
    read=lambda r: work_of(r.config, r.n_train),
    write=one_line,
    key=lambda r: data_name(r.config).lower(),
    left=True,
)
"""What was trained on and how much of it, `reviews.csv 960×512`; the knob of that name has the whole path."""
EVAL_LOSS = Entry(name="eval_loss", label="eval loss", read=lambda r: r.eval_loss, write=loss, digits=3)
PARAMETERS = Entry(name="n_parameters", label="parameters", read=lambda r: r.n_parameters, write=number)
MEMORY = Entry(
    name="peak_used_mib", label="VRAM", short="MiB", unit="MiB", read=lambda r: to_mib(r.peak_used), write=fixed
)
"""The most that was used; of a CPU the process's RAM."""
SHARE = Entry(
    name="share",
    label="%",
    read=lambda r: share_of(r.peak_used, r.memory_total),
    write=lambda v: fixed(v, 1 if v is None or v < 99.95 else 0),
)
RESERVED = Entry(
    name="peak_reserved_mib", label="reserved", unit="MiB", read=lambda r: to_mib(r.peak_reserved), write=fixed
)
ALLOCATED = Entry(
    name="peak_allocated_mib", label="allocated", unit="MiB", read=lambda r: to_mib(r.peak_allocated), write=fixed
)
TOTAL = Entry(name="vram_total_mib", label="total", unit="MiB", read=lambda r: to_mib(r.memory_total), write=fixed)
STATUS = Entry(name="status", label="status", read=status_of, write=one_line, key=lambda r: r.outcome.value, left=True)

RECORDED: tuple[Entry, ...] = (
    TIME,
    MEAN_SPEED,
    Entry(
        name="steady_samples_per_s",
        label="steady",
        unit="samples/s",
        read=lambda r: r.steady_samples_per_s,
        write=rate,
    ),
    Entry(name="steady_spread", label="spread", unit="samples/s", read=lambda r: r.steady_spread, write=rate),
    TOKENS,
    MFU,
    UPDATES,
    PLANNED,
    LOSS,
    LAST_LOSS,
    ACCURACY,
    EVAL_LOSS,
    N_EVAL,
    Entry(name="eval_accuracy_low", label="low", read=lambda r: _bound(r, 0), write=lambda v: fixed(v, 3)),
    Entry(name="eval_accuracy_high", label="high", read=lambda r: _bound(r, 1), write=lambda v: fixed(v, 3)),
    MAJORITY,
    N_TRAIN,
    PARAMETERS,
    MEMORY,
    RESERVED,
    ALLOCATED,
    TOTAL,
)
"""The figures of JSON and CSV, in their order. `SPEED`, `SHARE` and `STATUS` are made of what is in there."""


def label_of(entry: Entry, records: Iterable[RunRecord]) -> str:
    """An entry's label over these runs: memory is VRAM or RAM as their devices call it, "memory" if they differ."""
    if entry is not MEMORY:
        return entry.label
    labels = {record.device.memory_label for record in records if record.device is not None}
    if len(labels) > 1:
        return "memory"
    return one_line(labels.pop()) if labels else entry.label


def heading_of(entry: Entry, records: Iterable[RunRecord]) -> str:
    """An entry's heading over these runs, with memory named as they measured it: "VRAM MiB", "RAM MiB"."""
    return f"{label_of(entry, records)} {entry.unit}".strip()
