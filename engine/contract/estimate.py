"""What another batch size would need, from what a run has measured: an estimate, with its bounds. Pure.

What is held whatever the batch (weights, optimizer states) stays; the rest of the peak of allocated memory grows with
the batch, but for the gradients, which may or may not be a part of it; the allocator rounds as it did, and what is
outside it stays. Two runs at two batch sizes say more: then it is the line through them.

Checked against runs at that batch (`tests/engine/contract/test_estimate.py`), and against forecasts of five models
with 13 techniques: the truth is within the bounds in 19 of 20 cases for twice the batch, in 9 of 10 for half and for
up to 16 times of it. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.contract.config import KEEPING, RunConfig
from engine.contract.numbers import mib
from engine.contract.records import Outcome, RunRecord
from engine.gpus.units import to_mib

MARGIN = 0.08
"""Of the whole, for each doubling: what rounding and fragmentation move it by, in 9 of 10 cases."""
_STEPS = 2.2
"""Times the gradients: a peak up to that may be an optimizer's step with its temporaries, which no batch changes."""
_UPDATES = 2
"""After which the peak is reached: the optimizer's states come with the first, and are there in the second."""
_MOST = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run took at one batch size; bytes."""

    batch_size: int
    """Of a micro-step."""
    fixed: int
    """Weights, frozen ones too, and the optimizer's states."""
    gradients: int
    accumulates: bool
    """Whether gradients are held while later micro-steps are computed."""
    allocated: int
    """The peak, as are the following two."""
    reserved: int
    used: int | None
    """Of the whole device; None where nobody tells it: then the estimate is of what is reserved."""

    @property
    def need(self) -> int:
        """What it took of the card."""
        return self.reserved if self.used is None else max(self.used, self.reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes that a batch size would need of the card: about, at the least and at the most."""

    batch_size: int
    need: int
    least: int
    most: int
    measured_at: tuple[int, ...]
    """The batch size that was measured, or the two."""
    is_of_reserved: bool
    """Whether what is outside the allocator is not known, and not in it."""
    largest_batch: int | None
    """The largest batch size that fits even at the most; None where the card's memory is not known."""

    @property
    def sentence(self) -> str:
        """`batch 16 would need about 5,000 MiB (4,500 to 5,400), an estimate from batch 8; up to batch 21 fits`."""
        what = " reserved" if self.is_of_reserved else ""
        measured = " and ".join(f"{each:,}" for each in self.measured_at)
        fits = f"; up to batch {self.largest_batch:,} fits" if self.largest_batch else ""
        return (
            f"batch {self.batch_size:,} would need about {mib(self.need)} MiB{what} ({mib(self.least)} to "
            f"{mib(self.most)}), an estimate from batch {measured}{fits}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields that other programs rely on; sizes in MiB."""
        return {
            "batch_size": self.batch_size,
            "peak_reserved_mib" if self.is_of_reserved else "peak_used_mib": to_mib(self.need),
            "range_mib": [to_mib(self.least), to_mib(self.most)],
            "measured_at": list(self.measured_at),
            "largest_batch": self.largest_batch,
        }


def measured(record: RunRecord) -> Measured | None:
    """What a run of a script took; None where its peak is not reached, or was not seen."""
    script, batch = record.script, batch_of(record)
    if script is None or batch is None or record.outcome is Outcome.OUT_OF_MEMORY or record.updates < _UPDATES:
        return None
    weights = script.held.get("weights", 0) + script.held.get("frozen", 0)
    if not weights or record.peak_allocated is None or record.peak_reserved is None:
        return None
    return Measured(
        batch_size=batch,
        fixed=weights + script.held.get("optimizer", 0),
        gradients=script.held.get("gradients", 0),
        accumulates=(script.gradient_accumulation_steps or 1) > 1,
        allocated=record.peak_allocated,
        reserved=record.peak_reserved,
        used=record.peak_used,
    )


def batch_of(record: RunRecord) -> int | None:
    """The batch size of a script's run: what its command says, else what was seen."""
    if record.config.script is not None and record.config.says("batch_size"):
        return record.config.batch_size
    return None if record.script is None else record.script.batch_size


def of_run(record: RunRecord, others: Iterable[RunRecord] = (), batch_size: int | None = None) -> Estimate | None:
    """The estimate for a batch size, by default twice the run's; None where there is nothing to go by.

    `others`: those that differ from it in the batch size alone are measured too.
    """
    own = measured(record)
    if own is None:
        return None
    alike = [other for other in others if other.run_id != record.run_id and _is_alike(other, record)]
    points = {each.batch_size: each for each in map(measured, alike) if each is not None} | {own.batch_size: own}
    wanted = 2 * own.batch_size if batch_size is None else batch_size
    return None if wanted in points else estimate(list(points.values()), wanted, record.memory_total)


def _is_alike(one: RunRecord, other: RunRecord) -> bool:
    """Whether nothing but the batch size, or what is kept on the disk, tells two runs apart."""
    if one.device is None or other.device is None or one.device.card != other.device.card:
        return False
    lengths = {record.script.seq_len for record in (one, other) if record.script is not None}
    return len(lengths) == 1 and _without_batch(one.config) == _without_batch(other.config)


def _without_batch(config: RunConfig) -> dict[str, object]:
    return {name: value for name, value in config.to_dict().items() if name != "batch_size" and name not in KEEPING}


def estimate(points: Sequence[Measured], batch_size: int, limit: int | None = None) -> Estimate:
    """What `batch_size` would need by what was measured, at one batch size or at several. `limit`: the card's bytes."""
    need, least, most = _bounds(points, batch_size)
    nearest = _nearest(points, batch_size)
    return Estimate(
        batch_size=batch_size,
        need=need,
        least=least,
        most=most,
        measured_at=tuple(sorted(each.batch_size for each in nearest)),
        is_of_reserved=any(each.used is None for each in nearest),
        largest_batch=None if limit is None else _largest(points, limit),
    )


def _nearest(points: Sequence[Measured], batch_size: int) -> list[Measured]:
    """The one or two that are measured nearest."""
    return sorted(points, key=lambda each: abs(math.log2(each.batch_size / batch_size)))[:2]


def _bounds(points: Sequence[Measured], batch_size: int) -> tuple[int, int, int]:
    """About, at the least, at the most."""
    nearest = _nearest(points, batch_size)
    if len(nearest) == 2:
        one, two = nearest
        slope = max(0.0, (two.need - one.need) / (two.batch_size - one.batch_size))
        least = most = one.need + slope * (batch_size - one.batch_size)
    else:
        least, most = _of_one(nearest[0], batch_size)
    margin = min(0.5, MARGIN * abs(math.log2(batch_size / nearest[0].batch_size)))
    return round((least + most) / 2), round(least * (1 - margin)), round(most * (1 + margin))


def _of_one(run: Measured, batch_size: int) -> tuple[float, float]:
    """The least and the most, before rounding."""
    times = batch_size / run.batch_size
    rest = max(0, run.allocated - run.fixed)
    gradients = min(run.gradients, rest)
    with_gradients = gradients + (rest - gradients) * times  # the peak is where all gradients are there
    ends = [with_gradients, with_gradients if run.accumulates else rest * times]
    if times > 1 and rest <= _STEPS * gradients:
        ends.append(float(rest))
    rounded = run.reserved / run.allocated
    outside = run.need - run.reserved
    least, most = (max(end, gradients) for end in (min(ends), max(ends)))
    return (run.fixed + least) * rounded + outside, (run.fixed + most) * rounded + outside


def _largest(points: Sequence[Measured], limit: int) -> int | None:
    """The largest batch size that fits at the most; what ran has fitted."""
    fits, fails = max(each.batch_size for each in points), 2 * _MOST
    while fails - fits > 1:
        size = min((fits + fails) // 2, 2 * fits)
        if size < _MOST and _bounds(points, size)[2] <= limit:
            fits = size
        else:
            fails = size
    return fits
