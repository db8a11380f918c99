"""What an accuracy is worth: its interval, and whether always answering the same would do as well. Pure."""

from __future__ import annotations

import math

from engine.contract.numbers import fixed
from engine.contract.records import RunRecord
from engine.contract.tasks import TASKS

_Z = 1.959964
"""Of the standard normal distribution, two-sided 95 %."""


def interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n` samples, after Wilson (1927): the noise of the sample, not of the seed."""
    if n <= 0:
        return 0.0, 1.0
    squared = _Z * _Z / n
    middle = share + squared / 2
    reach = _Z * math.sqrt(share * (1 - share) / n + squared / (4 * n))
    return max(0.0, (middle - reach) / (1 + squared)), min(1.0, (middle + reach) / (1 + squared))


def accuracy_interval(record: RunRecord) -> tuple[float, float] | None:
    """The interval of a run's accuracy; None where it or its number of samples is unknown."""
    share, n = record.eval_accuracy, record.n_eval
    return interval(share, n) if share is not None and 0 <= share <= 1 and n else None


def beats_majority(share: float | None, n: int | None, majority: float | None) -> bool | None:
    """Whether an accuracy is above the share of the largest class by more than chance; None where one is unknown."""
    if share is None or majority is None or not n or not 0 <= share <= 1:
        return None
    return interval(share, n)[0] > majority


def no_better(record: RunRecord) -> bool:
    """Whether it is known that a run's accuracy is no better than that of always answering the largest class."""
    return beats_majority(record.eval_accuracy, record.n_eval, record.eval_majority) is False


def interval_text(record: RunRecord) -> str:
    """The interval, "0.589–0.651"; empty where it is unknown."""
    bounds = accuracy_interval(record)
    return "" if bounds is None else f"{fixed(bounds[0], 3)}–{fixed(bounds[1], 3)}"


def accuracy_sentence(record: RunRecord) -> str:
    """A run's accuracy in a sentence, called as its task calls it, with what it is worth; empty where it has none."""
    bounds = accuracy_interval(record)
    if bounds is None or record.eval_accuracy is None:
        return ""
    called = (TASKS[record.config.task].score or "accuracy").capitalize()
    text = f"{called} {record.eval_accuracy:.3f} of {record.n_eval:,} held out (95 % interval {interval_text(record)})"
    if record.eval_majority is None:
        return f"{text}."
    share = f"{record.eval_majority:.3f}"
    if no_better(record):
        return f"{text}: no better than always answering the majority class, {share}."
    return f"{text}; the majority class alone gives {share}."
