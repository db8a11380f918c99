"""Which evaluation of a run is the best so far, and when a better one is no longer waited for. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone
from engine.contract.numbers import fixed, loss, n_of
from engine.contract.records import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of an evaluation that evaluations are compared by."""

    label: str
    """As sentences have it: `eval loss`."""
    greater_is_better: bool
    read: Callable[[EvalDone], float | None]
    write: Callable[[float | None], str]


METRICS: dict[str, Metric] = {
    "loss": Metric(label="eval loss", greater_is_better=False, read=lambda done: done.loss, write=loss),
    "accuracy": Metric(
        label="accuracy", greater_is_better=True, read=lambda done: done.accuracy, write=lambda v: fixed(v, 3)
    ),
    "macro-f1": Metric(
        label="macro-F1", greater_is_better=True, read=lambda done: done.macro_f1, write=lambda v: fixed(v, 3)
    ),
}
"""By the values of `metric_for_best_model`."""


class Best:
    """Takes a run's evaluations in, one after the other.

    As transformers: a strictly better one is the best (`Trainer._determine_best_metric`); one that is not better than
    the best before it by more than the threshold counts against the patience (`EarlyStoppingCallback`). A figure that
    is unknown or nan is never better.
    """

    def __init__(self, config: RunConfig) -> None:
        self.name = config.metric_for_best_model
        """One of `METRICS`."""
        self.metric = METRICS.get(self.name, METRICS["loss"])  # another version's name cannot be read
        self.evaluation: EvalDone | None = None
        """The best so far; None where there is none yet."""
        self.is_new = False
        """Whether the evaluation that was taken in last is the best so far."""
        self.waited = 0
        """Evaluations in a row, up to the last one, that did not improve."""
        self._patience = config.early_stopping_patience
        self._threshold = config.early_stopping_threshold
        self._taken = 0

    @property
    def greater_is_better(self) -> bool:
        return self.metric.greater_is_better

    @property
    def value(self) -> float | None:
        """The best so far."""
        return None if self.evaluation is None else self.metric.read(self.evaluation)

    @property
    def gives_up(self) -> bool:
        """Whether the run is to end here; never where the patience is 0."""
        return 0 < self._patience <= self.waited

    def take(self, done: EvalDone) -> None:
        """One more evaluation."""
        value, sign = self.metric.read(done), 1.0 if self.greater_is_better else -1.0
        worst = -math.inf * sign
        best = self.value if self.value is not None else worst
        gain = -math.inf if value is None or value == best else sign * (value - best)
        improves = gain > 0 and gain > self._threshold
        self.waited = 0 if improves or not self._taken else self.waited + 1
        self._taken += 1
        self.is_new = gain > 0
        if self.is_new:
            self.evaluation = done

    def sentence(self) -> str:
        """Why the run ended early."""
        n = self.waited
        said = f"Stopped early: {n_of(n, 'evaluation')} without a better {self.metric.label}"
        best = self.evaluation
        if best is None:
            return f"{said}."
        return f"{said} than {self.metric.write(self.value)} at update {best.update:,} (epoch {best.epoch:.2f})."


def best_sentence(record: RunRecord) -> str:
    """Which evaluation of a run was the best, where that was not the last one; else empty.

    A run's row has the figures of its last evaluation: those of the model that it ended with.
    """
    if record.best_update is None or record.best_update == record.updates:
        return ""
    metric = METRICS.get(record.config.metric_for_best_model, METRICS["loss"])
    epoch = "" if record.best_epoch is None else f" (epoch {record.best_epoch:.2f})"
    known = {"eval loss": loss(record.best_loss)}
    if record.best_accuracy is not None:
        known["accuracy"] = fixed(record.best_accuracy, 3)
    if record.best_macro_f1 is not None:
        known["macro-F1"] = fixed(record.best_macro_f1, 3)
    figures = ", ".join(f"{name} {value}" for name, value in known.items())
    return f"Best evaluation by {metric.label}: that of update {record.best_update:,}{epoch}, not the last: {figures}."
