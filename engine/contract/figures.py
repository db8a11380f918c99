"""A run's line in a table, entry by entry: heading, unit, value, how it is written. Standard library only.

Every table of runs takes its columns from here, on the screen, on the command line and in what is exported. It only
chooses which, in which order and how wide, and how it shows spreads or differences: one run has the same figures in
all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.contract.accuracy import accuracy_interval, interval_text, no_better
from engine.contract.config import KNOBS, Value
from engine.contract.host_load import busy_share
from engine.contract.knob import shown
from engine.contract.marks import words_of
from engine.contract.numbers import (
    UNKNOWN,
    digits_of,
    duration,
    fixed,
    forecast_rate,
    loss,
    number,
    of_hundred,
    percent,
    plus_minus,
    rate,
)
from engine.contract.own_data import data_name, work_of
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_flags import told_of
from engine.contract.text import one_line
from engine.contract.throughput import ENOUGH_UPDATES, warmup_updates
from engine.gpus.units import MIB, to_mib


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
    is_timed: bool = False
    """A time or a speed that was measured: on a virtual GPU it is that of the CPU, and the heading says so."""

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
        read=lambda record: told_of(record, name),
        write=lambda value: shown(knob, value),
        left=knob.kind not in (int, float),
    )


CPU = "CPU"
"""Whose a time or a speed is that was measured on a virtual GPU."""

_SHORT = {
    "batch_size": "batch",
    "gradient_accumulation_steps": "acc",
    "gradient_checkpointing": "ckpt",
    "precision": "prec",
}


def steady_of(record: RunRecord) -> float | None:
    """Median samples/s after warm-up; None with fewer than `ENOUGH_UPDATES` updates, or batches, behind it."""
    if record.config.answers:
        return record.steady_samples_per_s
    updates = record.updates - warmup_updates(record.planned_updates or record.updates)
    return record.steady_samples_per_s if updates >= ENOUGH_UPDATES else None


def speed_of(record: RunRecord) -> float | None:
    """A run's samples/s: the steady median where it is known, else of the whole training."""
    steady = steady_of(record)
    return record.samples_per_s if steady is None else steady


def card_time_of(record: RunRecord) -> float | None:
    """Seconds that the card would take, by forecast, for the samples that a run on a virtual GPU trained on.

    Without evaluations, which the run's own time counts.
    """
    rate, speed, runtime = record.forecast_samples_per_s, record.samples_per_s, record.train_runtime_s
    return speed * runtime / rate if rate and speed is not None and runtime is not None else None


def is_virtual(records: Iterable[RunRecord]) -> bool:
    """Whether there are runs, and all of them were on virtual GPUs: their times and speeds are those of the CPU."""
    devices = [record.device for record in records]
    return bool(devices) and all(device is not None and device.is_virtual for device in devices)


def share_of(used: float | None, total: float | None) -> float | None:
    """Memory used in percent of the whole; None where one is unknown."""
    return 100 * used / total if used is not None and total else None


def busy_of(record: RunRecord) -> float | None:
    """What other programs took of the cores that a run could use, 0 to 1; None where it is unknown."""
    return busy_share(record.host_cores, record.host_free_cores)


def status_of(record: RunRecord) -> str:
    """How a run ended, in words; one that failed or did not fit says in which phase. What disturbed it is said."""
    words = record.outcome.words
    if record.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED) and record.failed_phase:
        words = f"{words} in {record.failed_phase.noun}"
        words += f" on rank {record.failed_rank}" if record.failed_rank is not None else ""
    if record.outcome in (Outcome.STOPPED, Outcome.INTERRUPTED):
        words += _after_requests(record)
    if record.outcome is Outcome.COMPLETED and record.updates < (record.planned_updates or 0):
        words += " early"  # no better evaluation came
    return ", ".join(filter(None, (words, words_of(record))))


def _after_requests(record: RunRecord) -> str:
    """How far a run that answers came: ` after 3 of 8 requests`."""
    answer = record.answer
    if answer is None or not answer.planned_requests or answer.n_requests >= answer.planned_requests:
        return ""
    return f" after {answer.n_requests:,} of {answer.planned_requests:,} requests"


def energy_of(record: RunRecord) -> float | None:
    """Wh that the card took for the training; None where it is unknown."""
    return None if record.energy is None else record.energy / 3600


def energy_per_sample(record: RunRecord) -> float | None:
    """Joules that the card took for one sample of the training; None where they are unknown."""
    if record.energy is None or not record.samples_per_s or not record.train_runtime_s:
        return None
    return record.energy / (record.samples_per_s * record.train_runtime_s)


def card_words(uuid: str | None) -> str:
    """A UUID by its beginning, which tells the cards of one house apart: `GPU-8932f937`."""
    return UNKNOWN if uuid is None else one_line("-".join(uuid.split("-")[:2]))


def scaling_entry(scaling: Callable[[RunRecord], float | None]) -> Entry:
    """How much of several GPUs' speed a run gets, 0 to 1 and a little more, as `engine.compare.scaling` reckons it."""
    return Entry(
        name="scaling",
        label="scaling",
        read=scaling,
        write=lambda value: percent(of_hundred(value)),
        is_timed=True,
    )


def places(records: Sequence[RunRecord]) -> tuple[Entry, ...]:
    """`HOST` and `CARD`, where these runs are known to be of several."""
    return tuple(entry for entry in (HOST, CARD) if len({*map(entry.read, records)} - {None}) > 1)


def gpus_of(record: RunRecord) -> int | None:
    """How many GPUs a run takes; None while `all` of them are not counted, and of a script that does not say."""
    if record.config.is_script and not record.config.says("gpus"):
        return len(record.peak_used_by_rank) or None
    return record.config.gpus or len(record.peak_used_by_rank) or None


def is_on_several(record: RunRecord) -> bool:
    """Whether a run takes several GPUs, so that its memory is that of the fullest."""
    return (gpus_of(record) or 1) > 1


def fullest_rank(record: RunRecord) -> int | None:
    """Which rank used the most memory; None with one GPU, and where all used as much, to the MiB."""
    known = {rank: used for rank, used in enumerate(record.peak_used_by_rank) if used is not None}
    if len(known) < 2 or max(known.values()) - min(known.values()) < MIB:
        return None
    return max(known, key=lambda rank: (known[rank], -rank))


def _rank_mark(record: RunRecord) -> str:
    rank = fullest_rank(record)
    return "" if rank is None else f" r{rank}"


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
COMPUTED_IN = replace(PRECISION, read=lambda record: record.config.computed_in)
"""The precision where a reader looks for what was computed in: of 16-bit weights without autocast it is theirs."""
WEIGHTS = knob_entry("weights")
GPUS = replace(knob_entry("gpus"), read=gpus_of, write=number)
PARALLEL = replace(
    knob_entry("parallel"), read=lambda r: r.config.parallel if is_on_several(r) else None, write=lambda v: v or UNKNOWN
)
"""How the work is divided; unknown with one GPU, where nothing is."""

TIME = Entry(
    name="train_runtime_s",
    label="time",
    unit="s",
    read=lambda r: r.train_runtime_s,
    write=duration,
    digits=2,
    is_timed=True,
)
SPEED = Entry(name="speed", unit="samples/s", read=speed_of, write=rate, is_timed=True)
MEAN_SPEED = Entry(
    name="samples_per_s",
    label="mean",
    unit="samples/s",
    read=lambda r: r.samples_per_s,
    write=rate,
    is_timed=True,
)
"""Of the whole training, as the lecture and the Trainer have it."""
CARD_SPEED = Entry(
    name="forecast_samples_per_s",
    label="card",
    unit="samples/s",
    short="card /s",
    read=lambda r: r.forecast_samples_per_s,
    write=forecast_rate,
)
"""Of a virtual GPU: the card's own, by forecast, which the sign ~ says wherever it is written."""
CARD_TIME = Entry(
    name="forecast_runtime_s",
    label="card time",
    unit="s",
    short="card s",
    read=card_time_of,
    write=forecast_rate,
)
TOKENS = Entry(name="tokens_per_s", unit="tokens/s", read=lambda r: r.tokens_per_s, write=rate, is_timed=True)
MFU = Entry(name="mfu", label="MFU", read=lambda r: r.mfu, write=lambda v: percent(of_hundred(v)))  # 0 to 1
WAITING = Entry(
    name="wait_share", label="waiting", read=lambda r: r.wait_share, write=lambda v: percent(of_hundred(v))
)  # 0 to 1
"""Of the time of an update: what the GPUs waited for each other, the mean of all."""
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
MACRO_F1 = Entry(
    name="eval_macro_f1",
    label="macro-F1",
    short="F1",
    read=lambda r: r.eval_macro_f1,
    write=lambda v: fixed(v, 3),
    digits=3,
)  # 0 to 1
BEST_UPDATE = Entry(name="best_update", label="best update", read=lambda r: r.best_update, write=number)
"""After which the best evaluation was; the others are those of the last one."""
EVAL_LOSS = Entry(name="eval_loss", label="eval loss", read=lambda r: r.eval_loss, write=loss, digits=3)
PARAMETERS = Entry(name="n_parameters", label="parameters", read=lambda r: r.n_parameters, write=number)
MEMORY = Entry(
    name="peak_used_mib",
    label="VRAM",
    short="MiB",
    unit="MiB",
    read=lambda r: to_mib(r.peak_used),
    write=fixed,
    mark=_rank_mark,
)
"""The most that was used; of several GPUs on the fullest, whose rank is told; of a CPU the process's RAM."""
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
CARD = Entry(
    name="gpu_uuid", label="card", read=lambda r: r.device.uuid if r.device else None, write=card_words, left=True
)
"""Of rows on several cards."""
HOST = Entry(
    name="host", label="host", read=lambda r: r.host, write=lambda v: UNKNOWN if v is None else one_line(v), left=True
)
ENERGY = Entry(
    name="energy_wh",
    label="energy",
    unit="Wh",
    read=energy_of,
    write=rate,
)
"""Of the training, as its time."""
PER_SAMPLE = Entry(name="energy_j_per_sample", unit="J/sample", short="J/sa", read=energy_per_sample, write=rate)
HOST_BUSY = Entry(
    name="host_busy",
    label="host busy",
    read=busy_of,
    write=lambda v: percent(of_hundred(v)),
)  # 0 to 1
THREADS = Entry(name="threads", label="threads", read=lambda r: r.threads, write=number)
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
        is_timed=True,
    ),
    Entry(
        name="steady_spread",
        label="spread",
        unit="samples/s",
        read=lambda r: r.steady_spread,
        write=rate,
        is_timed=True,
    ),
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
    MACRO_F1,
    BEST_UPDATE,
    Entry(name="best_epoch", label="best epoch", read=lambda r: r.best_epoch, write=lambda v: fixed(v, 2)),
    Entry(name="best_loss", label="best eval loss", read=lambda r: r.best_loss, write=loss),
    Entry(name="best_accuracy", label="best accuracy", read=lambda r: r.best_accuracy, write=lambda v: fixed(v, 3)),
    Entry(name="best_macro_f1", label="best macro-F1", read=lambda r: r.best_macro_f1, write=lambda v: fixed(v, 3)),
    N_TRAIN,
    PARAMETERS,
    MEMORY,
    RESERVED,
    ALLOCATED,
    TOTAL,
    CARD_SPEED,
    CARD_TIME,
    ENERGY,
    PER_SAMPLE,
    THREADS,
    HOST_BUSY,
)
"""The figures of JSON and CSV, in their order. `SPEED`, `SHARE` and `STATUS` are made of what is in there."""


def label_of(entry: Entry, records: Iterable[RunRecord]) -> str:
    """An entry's label over these runs: memory is VRAM or RAM as their devices call it, "memory" if they differ.

    What was timed on virtual GPUs alone is the CPU's: "CPU time", "CPU".
    """
    if entry.is_timed and is_virtual(records):
        return f"{CPU} {entry.label}".strip()
    if entry is not MEMORY:
        return entry.label
    labels = {record.device.memory_label for record in records if record.device is not None}
    if len(labels) > 1:
        return "memory"
    return one_line(labels.pop()) if labels else entry.label


def short_of(entry: Entry, records: Iterable[RunRecord]) -> str:
    """The heading where there is no room for it all: "MiB", "CPU /s"; empty where an entry has none."""
    if entry.is_timed and is_virtual(records):
        return f"{CPU} {entry.short or entry.unit.replace('samples', '').replace('tokens', 'tok')}"
    return entry.short


def unit_of(entry: Entry, records: Iterable[RunRecord]) -> str:
    """An entry's unit over these runs: memory is in "MiB/GPU" where some ran on several GPUs."""
    return f"{entry.unit}/GPU" if entry is MEMORY and any(map(is_on_several, records)) else entry.unit


def heading_of(entry: Entry, records: Iterable[RunRecord]) -> str:
    """An entry's heading over these runs, as they measured it: "VRAM MiB" or "RAM MiB", "CPU samples/s"."""
    records = list(records)
    return f"{label_of(entry, records)} {unit_of(entry, records)}".strip()
