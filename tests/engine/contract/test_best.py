"""Which evaluation is the best, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine.contract.best import Best, best_sentence
from engine.contract.config import RunConfig
from engine.contract.confusion import class_scores, from_plain, macro_f1
from engine.contract.events import EvalDone
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.contract.run_figures import RunFigures, new_record

CONFIG = RunConfig(workload="reviews", early_stopping_patience=2)
DONE = EvalDone(run_id=1, epoch=1.0, update=1, accuracy=0.5, loss=1.0, n_samples=10, eval_s=1.0, t=1.0, macro_f1=0.4)


def taken(config: RunConfig, losses: list[float]) -> Best:
    best = Best(config)
    for update, loss in enumerate(losses, 1):
        best.take(replace(DONE, update=update, loss=loss))
    return best


def test_a_loss_that_is_no_number_is_never_the_best_and_counts_against_the_patience() -> None:
    best = taken(CONFIG, [math.nan])
    assert (best.value, best.is_new, best.waited) == (None, False, 0)  # the first one counts not, as in transformers
    best = taken(CONFIG, [math.nan, math.nan, math.nan])
    assert best.gives_up
    assert best.sentence() == "Stopped early: 2 evaluations without a better eval loss."
    assert taken(CONFIG, [math.nan, 2.0]).value == 2.0


def test_a_small_gain_is_the_best_but_counts_against_the_patience() -> None:
    best = taken(CONFIG.with_values(early_stopping_threshold=0.1), [1.0, 0.95, 0.91])
    assert (best.value, best.is_new, best.waited, best.gives_up) == (0.91, True, 2, True)


def test_without_patience_it_never_gives_up() -> None:
    assert not taken(CONFIG.with_values(early_stopping_patience=0), [1.0] * 50).gives_up


@pytest.mark.parametrize("metric", ["loss", "accuracy", "macro-f1"])
def test_the_row_has_the_figures_of_the_last_evaluation_and_those_of_the_best(metric: str) -> None:
    config = CONFIG.with_values(metric_for_best_model=metric)
    figures = RunFigures(new_record(1, config, DeviceInfo(name="x", kind="cpu"), 0.0))
    good = replace(DONE, update=2, loss=0.5, accuracy=0.9, macro_f1=0.8, epoch=2.0)
    for event in (DONE, good, replace(DONE, update=3)):
        figures.add(event)
    row = figures.as_record()
    assert (row.eval_loss, row.eval_accuracy, row.eval_macro_f1) == (1.0, 0.5, 0.4)
    assert (row.best_update, row.best_epoch) == (2, 2.0)
    assert (row.best_loss, row.best_accuracy, row.best_macro_f1) == (0.5, 0.9, 0.8)
    assert "update 2 (epoch 2.00), not the last: eval loss 0.500, accuracy 0.900, macro-F1 0.800" in best_sentence(row)


def test_nothing_is_said_where_the_last_was_the_best() -> None:
    row = RunRecord(run_id=1, config=CONFIG, outcome=Outcome.COMPLETED, updates=8, best_update=8)
    assert best_sentence(row) == best_sentence(replace(row, best_update=None)) == ""


def test_f1_is_that_of_the_classes_that_occur_or_are_answered() -> None:
    counts = ((3, 1, 0), (0, 0, 0), (0, 0, 0))
    assert [score.f1 for score in class_scores(counts)] == [6 / 7, 0.0, None]
    assert macro_f1([3, 0, 0], [4, 0, 0], [3, 1, 0]) == (6 / 7 + 0.0) / 2
    assert macro_f1([], [], []) is None


@pytest.mark.parametrize("value", [None, [], [[1, 2]], [[1, "a"], [2, 3]], [1, 2], "text", [[True]]])
def test_what_is_no_confusion_is_read_as_none(value: object) -> None:
    assert from_plain(value) is None


def test_a_confusion_is_read_back() -> None:
    assert from_plain([[1, 2], [3, 4]]) == ((1, 2), (3, 4))
