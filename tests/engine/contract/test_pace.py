"""How long a training takes: updates at their pace, and evaluations at theirs."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, TrainingStarted, UpdateDone
from engine.contract.pace import WholeTime, planned_evaluations
from engine.contract.records import Memory, Shares


def test_evaluations_are_planned_as_the_loop_makes_them() -> None:
    reviews = RunConfig(workload="reviews", epochs=3)
    assert planned_evaluations(reviews, 30, 10) == 3
    assert planned_evaluations(reviews.with_values(eval_steps=7), 30, 10) == 5  # 7, 14, 21, 28 and the last update
    assert planned_evaluations(reviews.with_values(eval_steps=10), 30, 10) == 3
    assert planned_evaluations(reviews, 30, 0) == 0


def test_the_whole_is_foretold_before_and_after_the_first_evaluation() -> None:
    """Updates of 1 s, 0.25 s of it forward for 8 samples; evaluations that take 5 s."""
    whole = WholeTime(RunConfig(workload="reviews", eval_steps=10))
    whole.add(started(updates=40, n_eval=80))
    for number in range(1, 11):
        whole.add(update(number))
    assert whole.seconds(10 / 40, 10.0) == pytest.approx(40 + 4 * 80 * 0.25 / 8)
    whole.add(EvalDone(run_id=1, epoch=1, update=10, accuracy=None, loss=1.0, n_samples=80, eval_s=5.0, t=15.0))
    assert whole.seconds(10 / 40, 15.0) == pytest.approx(40 + 4 * 5)
    assert whole.seconds(0.0, 0.0) is None


def started(updates: int, n_eval: int) -> TrainingStarted:
    values: dict[str, Any] = {"n_parameters": 1, "n_train": 320, "micro_steps_per_epoch": updates}
    return TrainingStarted(run_id=1, n_eval=n_eval, planned_updates=updates, **values)


def update(number: int) -> UpdateDone:
    return UpdateDone(
        run_id=1,
        update=number,
        epoch=number / 40,
        loss=1.0,
        learning_rate=1e-3,
        grad_norm=None,
        loss_scale=None,
        skipped=False,
        n_samples=8,
        n_tokens=8,
        update_s=1.0,
        warmup=False,
        t=float(number),
        shares=Shares(forward=0.25, backward=0.75),
        memory=Memory(),
    )
