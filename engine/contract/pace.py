"""How long a whole training takes, from the part that is done: its updates, and the evaluations between them. Pure."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, Event, TrainingStarted, UpdateDone


def planned_evaluations(config: RunConfig, planned_updates: int, n_eval: int) -> int:
    """Evaluations of a run that goes to its end."""
    if not n_eval:
        return 0
    return config.epochs if config.eval_steps is None else -(-planned_updates // config.eval_steps)


class WholeTime:
    """Folds a run's events; `seconds` tells what they come to.

    An evaluation takes what those before it took. Before the first, one is taken to need a sample's forward for every
    one that it scores, as the updates measured it.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._n_eval = self._evaluations = self._done = self._samples = 0
        self._eval_s = self._forward_s = 0.0

    def add(self, event: Event) -> None:
        """Take one event in; most kinds say nothing about time."""
        if isinstance(event, TrainingStarted):
            self._n_eval = event.n_eval
            self._evaluations = planned_evaluations(self._config, event.planned_updates, event.n_eval)
        elif isinstance(event, EvalDone):
            self._done += 1
            self._eval_s += event.eval_s
        elif isinstance(event, UpdateDone) and not event.warmup:
            self._samples += event.n_samples or 0
            self._forward_s += event.shares.forward

    def seconds(self, share: float, t: float) -> float | None:
        """Of the whole training, evaluations included, when `share` of its updates is done after `t` seconds."""
        if share <= 0:
            return None
        each = 0.0
        if self._done:
            each = self._eval_s / self._done
        elif self._samples:
            each = self._n_eval * self._forward_s / self._samples
        left = max(0, self._evaluations - self._done)
        return max(0.0, t - self._eval_s) / share + self._eval_s + left * each
