"""The least difference between two rows that is not noise. Standard library only.

- Speed and time, one run on a side: a winner is called when median ± spread of the two do not overlap, the spread
  being that of single updates (16th to 84th percentile, halved). The standard error of the median is several times
  smaller and is not used: updates of one run share its clocks, temperature and neighbours, so it says how well this
  run is known, not how much two runs differ. Five equal runs on a shared CPU had medians of 110 to 146 samples/s,
  each with a spread of 36 to 50 and a standard error of 8 to 10. The difference must also exceed `RUN_TO_RUN`.
- Repeats on both sides: Student's t on the run-to-run standard deviations, two-sided 95 %, with the smaller side's
  degrees of freedom (the conservative form). Loss and accuracy need repeats with other seeds; equal seeds repeat the
  same numbers.
- Accuracy without repeats: 1.96 binomial standard errors of the number of held-out samples. That is the noise of the
  sample that was scored, not of the seed. Loss without repeats has no known noise, and so no verdict.
- Memory: `SAME_BYTES` or `SAME_SHARE` (`SAME_RAM_SHARE` on a CPU), whichever is larger, and the range of repeats.
"""

from __future__ import annotations

import math

from engine.compare.rows import Figure, Row
from engine.gpus.units import MIB

RUN_TO_RUN = 0.01
"""The lecture trained one configuration twice on one idle GPU: 66.70 and 66.06 s, 1.0 % apart."""
SAME_BYTES = MIB
"""The unit that memory is shown in."""
SAME_SHARE = 0.001
SAME_RAM_SHARE = 0.02
"""A process's resident memory also holds what earlier runs left: five equal runs took 557 to 568 MiB."""

_Z = 1.96
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom; 2.228 stands for more, on the safe side."""
_MEDIAN = math.sqrt(math.pi / 2)
"""The standard error of the median over that of the mean, for normal values."""


def repeat_noise(one: Figure | None, other: Figure | None, factor: float = 1.0) -> float | None:
    """The least difference that chance does not explain, from repeats on both sides; None without them."""
    if one is None or other is None or one.n < 2 or other.n < 2 or one.spread is None or other.spread is None:
        return None
    t = _T[min(one.n, other.n, len(_T) + 1) - 2]
    return factor * t * math.hypot(one.spread / math.sqrt(one.n), other.spread / math.sqrt(other.n))


def memory_noise(row: Row, baseline: Row) -> float | None:
    """In bytes; None where the baseline's memory is unknown."""
    if baseline.peak_used is None:
        return None
    device = baseline.first.device
    share = SAME_RAM_SHARE if device is not None and device.kind == "cpu" else SAME_SHARE
    return max(SAME_BYTES, share * baseline.peak_used, row.peak_range, baseline.peak_range)


def speed_noise(row: Row, baseline: Row) -> float | None:
    """In samples/s; None where a side has too few updates to know."""
    one, other = row.steady, baseline.steady
    if one is None or other is None or one.spread is None or other.spread is None:
        return None
    repeats = repeat_noise(one, other, _MEDIAN)
    return max(one.spread + other.spread, RUN_TO_RUN * other.value) if repeats is None else repeats


def time_noise(one: Figure | None, other: Figure | None, row: Row, baseline: Row) -> float | None:
    """In the unit of the figures, which are the times of `row` and `baseline`: as large a part as that of the speed."""
    noise = repeat_noise(one, other, _MEDIAN)
    of_speed, steady = speed_noise(row, baseline), baseline.steady
    if noise is not None or of_speed is None or other is None or steady is None or not steady.value:
        return noise
    return other.value * of_speed / steady.value


def accuracy_noise(row: Row, baseline: Row) -> float | None:
    """As a share; None without repeats where the number of scored samples is unknown."""
    one, other = row.eval_accuracy, baseline.eval_accuracy
    noise = repeat_noise(one, other)
    if noise is not None or one is None or other is None or not row.n_eval or not baseline.n_eval:
        return noise
    return _Z * math.hypot(_binomial_error(one.value, row.n_eval), _binomial_error(other.value, baseline.n_eval))


def _binomial_error(share: float, n: int) -> float:
    """Standard error of a share of `n`, after Agresti and Coull (1998): not 0 for a share of 0 or 1."""
    adjusted = (min(max(share, 0.0), 1.0) * n + 2) / (n + 4)
    return math.sqrt(adjusted * (1 - adjusted) / (n + 4))
