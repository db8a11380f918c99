"""What is compared: rows (a run, or completed repeats of one configuration, with their spread), and differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median, stdev

from engine.contract import answer_entries, figures
from engine.contract.config import KEEPING, KNOBS, Value
from engine.contract.figures import Entry, share_of, steady_of
from engine.contract.marks import marks_of
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_flags import told
from engine.gpus.units import to_mib


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value of a row, and what is known of its noise, in the same unit."""

    value: float
    spread: float | None = None
    """Over repeats their standard deviation; of one run's steady samples/s half of the updates' 16–84 percentile."""
    n: int = 1
    """Repeats behind it: runs, or different seeds where the figure depends on nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run, or completed repeats of one configuration on one device."""

    records: tuple[RunRecord, ...]
    steady: Figure | None
    """Median samples/s after warm-up; None with fewer than `ENOUGH_UPDATES` updates."""
    samples_per_s: Figure | None
    """Of the whole training: median over repeats."""
    train_runtime_s: Figure | None
    peak_used: int | None
    """Bytes: the highest of the repeats."""
    peak_range: int
    """Bytes between the highest and the lowest of the repeats."""
    train_loss: Figure | None
    """Mean ± standard deviation over seeds."""
    eval_accuracy: Figure | None
    eval_macro_f1: Figure | None
    energy: Figure | None
    """Wh of the training: median over repeats."""
    energy_per_sample: Figure | None
    """In joules."""

    @property
    def first(self) -> RunRecord:
        """The run that stands for all: their knobs, device and outcome are equal (the seed may differ)."""
        return self.records[0]

    @property
    def run_ids(self) -> tuple[int, ...]:
        """The numbers of its runs."""
        return tuple(record.run_id for record in self.records)

    @property
    def speed(self) -> Figure | None:
        """Samples/s: steady where it is known, else of the whole training, as `speed_of` has it of a run."""
        return self.steady or self.samples_per_s

    @property
    def card_speed(self) -> Figure | None:
        """Of a virtual GPU the card's samples/s by forecast, which repeats share."""
        return _median(_known(record.forecast_samples_per_s for record in self.records))

    @property
    def card_time(self) -> Figure | None:
        """Seconds of the card for the same samples, by forecast."""
        return _median(_known(figures.card_time_of(record) for record in self.records))

    @property
    def n_eval(self) -> int | None:
        """Held-out samples that were scored; None where no run says."""
        return next((record.n_eval for record in self.records if record.n_eval), None)

    @property
    def seconds_per_sample(self) -> Figure | None:
        """Of the whole training."""
        rate = self.samples_per_s
        if rate is None or not rate.value:
            return None
        return Figure(1 / rate.value, None if rate.spread is None else rate.spread / rate.value / rate.value, rate.n)


class Verdict(str, Enum):
    """What a difference means. `BETTER` and `WORSE` only where it is more than noise."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same within noise"
    NOT_ENOUGH_DATA = "not enough data"
    DISTURBED = "disturbed"
    NOT_COMPARABLE = "not comparable"


WITHIN_NOISE, NO_VERDICT = "≈", "?"
MARKS = {
    Verdict.SAME: WITHIN_NOISE,
    Verdict.NOT_ENOUGH_DATA: NO_VERDICT,
    Verdict.DISTURBED: NO_VERDICT,
}
"""At a difference that chance explains, and at one of which nobody can say yet."""


class Quantity(Enum):
    """What is compared: entries of the tables, in their units but for memory, which is in bytes."""

    MEMORY = figures.MEMORY
    SPEED = figures.SPEED  # steady where both sides have it, else of the whole training
    CARD_SPEED = figures.CARD_SPEED  # by forecast, of virtual GPUs
    TIME = figures.TIME  # of the training, or of a sample
    ENERGY = figures.PER_SAMPLE
    LOSS = figures.LOSS
    ACCURACY = figures.ACCURACY
    GENERATION = answer_entries.TG
    PROMPT = answer_entries.PP
    TTFT = answer_entries.TTFT_P50
    TPOT = answer_entries.TPOT_P50
    TOKEN_ENERGY = answer_entries.PER_TOKEN
    AGREEMENT = answer_entries.AGREEMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One quantity of a row against the baseline's."""

    quantity: Quantity
    value: float | None
    baseline: float | None
    verdict: Verdict
    why: str = ""
    """What is missing, where there is no verdict."""
    noise: float | None = None
    """The least difference that is not noise."""

    @property
    def difference(self) -> float | None:
        """Value minus baseline; None where one is unknown or they cannot be compared."""
        if self.value is None or self.baseline is None or self.verdict is Verdict.NOT_COMPARABLE:
            return None
        return self.value - self.baseline

    @property
    def percent(self) -> float | None:
        """The difference in percent of the baseline; None also where that is 0."""
        difference = self.difference
        return None if difference is None or not self.baseline else 100 * difference / self.baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A row against a baseline."""

    row: Row
    baseline: Row
    changed: dict[str, tuple[Value, Value]]
    per_sample: bool
    """True where the two did different work, so that `TIME` is in seconds per sample."""
    deltas: dict[Quantity, Delta]


def row_of(records: Sequence[RunRecord]) -> Row:
    """One row of one run, or of repeats. Raises `ValueError` without any run."""
    if not records:
        raise ValueError("a row needs a run")
    peaks = _known(record.peak_used for record in records)
    spread = records[0].steady_spread if len(records) == 1 else None
    return Row(
        records=tuple(records),
        steady=_median(_known(steady_of(record) for record in records), spread),
        samples_per_s=_median(_known(record.samples_per_s for record in records)),
        train_runtime_s=_median(_known(record.train_runtime_s for record in records)),
        peak_used=int(max(peaks)) if peaks else None,
        peak_range=int(max(peaks) - min(peaks)) if peaks else 0,
        train_loss=_over_seeds(records, lambda record: record.train_loss),
        eval_accuracy=_over_seeds(records, lambda record: record.eval_accuracy),
        eval_macro_f1=_over_seeds(records, lambda record: record.eval_macro_f1),
        energy=_median(_known(map(figures.energy_of, records))),
        energy_per_sample=_median(_known(map(figures.energy_per_sample, records))),
    )


def fold(records: Iterable[RunRecord]) -> list[Row]:
    """Rows in the order of their first run; completed runs of equal knobs (but for the seed) on one device share one.

    The knob `device` does not count: `auto` and `cuda` may be the same GPU. A run that was disturbed stands alone.
    """
    groups: dict[object, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(_repeat_key(record), []).append(record)
    return [row_of(group) for group in groups.values()]


def _repeat_key(record: RunRecord) -> object:
    if record.outcome is not Outcome.COMPLETED or record.device is None or marks_of(record):
        return record.run_id
    alone = figures.gpus_of(record) == 1  # then how work is divided says nothing
    settings = tuple(
        None if alone and knob.group == "parallel" else told(record.config, name)
        for name, knob in KNOBS.items()
        if name not in ("seed", "device") and name not in KEEPING
    )
    return settings, record.device.card


def figure_of(row: Row, entry: Entry) -> Figure | None:
    """A row's figure in the entry's unit, of what has no spread the median over repeats; None where it is unknown."""
    if entry is figures.MEMORY or entry is figures.SHARE:
        used = row.peak_used
        value = to_mib(used) if entry is figures.MEMORY else share_of(used, row.first.memory_total)
        return None if value is None else Figure(value)
    if entry in _FIGURES:
        return _FIGURES[entry](row)
    known = [each for record in row.records if isinstance(each := entry.read(record), (int, float))]
    if entry in _SPREADS:
        return _median(known, _SPREADS[entry](row.first) if len(row.records) == 1 else None)
    return Figure(median(known), n=len(known)) if known else None


_SPREADS: dict[Entry, Callable[[RunRecord], float | None]] = {
    answer_entries.TG: lambda record: record.answer.generation_spread if record.answer else None,
    answer_entries.PP: lambda record: record.answer.prompt_spread if record.answer else None,
    **dict.fromkeys((answer_entries.TTFT_P50, answer_entries.TPOT_P50, answer_entries.PER_TOKEN), lambda record: None),
}
"""Entries whose repeats tell their noise; of one run on its own, what its batches tell."""
_FIGURES: dict[Entry, Callable[[Row], Figure | None]] = {
    figures.TIME: lambda row: row.train_runtime_s,
    figures.SPEED: lambda row: row.speed,
    figures.MEAN_SPEED: lambda row: row.samples_per_s,
    figures.CARD_SPEED: lambda row: row.card_speed,
    figures.CARD_TIME: lambda row: row.card_time,
    figures.LOSS: lambda row: row.train_loss,
    figures.ACCURACY: lambda row: row.eval_accuracy,
    figures.MACRO_F1: lambda row: row.eval_macro_f1,
    figures.ENERGY: lambda row: row.energy,
    figures.PER_SAMPLE: lambda row: row.energy_per_sample,
}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: list[float], spread: float | None = None) -> Figure | None:
    if not values:
        return None
    return Figure(median(values), _deviation(values) if len(values) > 1 else spread, len(values))


def _deviation(values: list[float]) -> float | None:
    """Their standard deviation; None for fewer than two, or where one is not finite."""
    return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None


def says_seed(record: RunRecord) -> bool:
    """Whether the seed of a run is known: of a script where its command carries it."""
    return record.config.says("seed")


def about_seeds(rows: Iterable[Row]) -> str | None:
    """What to say of repeats whose seeds nobody knows; None where there are none."""
    if all(len(row.records) == 1 or says_seed(row.first) for row in rows):
        return None
    return "Repeats of a command that carries no {seed} count as runs: which seeds the script took is not known."


def _over_seeds(records: Sequence[RunRecord], read: Callable[[RunRecord], float | None]) -> Figure | None:
    """Mean and standard deviation, each seed counted once: equal seeds would make the noise look smaller.

    Of scripts whose seed nobody knows every run counts, unless all came to the same: then it is fixed.
    """
    by_seed: dict[int, list[float]] = {}
    for record in records:
        value = read(record)
        if value is not None:
            by_seed.setdefault(record.config.seed if says_seed(record) else -record.run_id, []).append(value)
    if records and not says_seed(records[0]) and len({value for values in by_seed.values() for value in values}) == 1:
        by_seed = dict(list(by_seed.items())[:1])
    means = [sum(values) / len(values) for values in by_seed.values()]
    return Figure(sum(means) / len(means), _deviation(means), len(means)) if means else None
