"""The interval of an accuracy, against figures that were published, and the majority class."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.accuracy import accuracy_sentence, beats_majority, interval, no_better
from engine.contract.config import RunConfig
from engine.contract.figures import ACCURACY
from engine.contract.records import Outcome, RunRecord


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3 (score without continuity correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(right: int, n: int, low: float, high: float) -> None:
    assert interval(right / n, n) == pytest.approx((low, high), abs=5e-5)


def test_a_share_of_all_is_not_certain() -> None:
    assert interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("share", "n", "majority", "beats"),
    [
        (0.76, 210, 0.76, False),
        (0.80, 210, 0.76, False),
        (0.90, 210, 0.76, True),
        (0.50, 210, 0.76, False),
        (None, 210, 0.76, None),
        (0.9, 210, None, None),
        (0.9, None, 0.5, None),
    ],
)
def test_an_accuracy_beats_the_majority_class_or_does_not(
    share: float | None, n: int | None, majority: float | None, beats: bool | None
) -> None:
    assert beats_majority(share, n, majority) is beats


def record(**figures: float | int | None) -> RunRecord:
    return RunRecord(run_id=1, config=RunConfig(), outcome=Outcome.COMPLETED, **figures)  # type: ignore[arg-type]


def test_it_is_said_in_words_and_marked() -> None:
    poor = record(eval_accuracy=0.7619, n_eval=210, eval_majority=0.7619)
    assert no_better(poor)
    assert ACCURACY.of(poor) == "0.762="
    assert accuracy_sentence(poor) == (
        "Accuracy 0.762 of 210 held out (95 % interval 0.700–0.814): no better than always answering the majority "
        "class, 0.762."
    )
    good = record(eval_accuracy=0.9, n_eval=210, eval_majority=0.5)
    assert ACCURACY.of(good) == "0.900"
    assert accuracy_sentence(good).endswith("; the majority class alone gives 0.500.")
    unknown = record(eval_accuracy=0.9, n_eval=210)  # a row of an earlier version
    assert ACCURACY.of(unknown) == "0.900"
    assert accuracy_sentence(unknown) == "Accuracy 0.900 of 210 held out (95 % interval 0.852–0.934)."
    assert accuracy_sentence(record()) == ""
    answers = replace(record(eval_accuracy=0.5, n_eval=10), config=RunConfig(task="question-answering"))
    assert accuracy_sentence(answers).startswith("Exact match 0.500 of 10 held out")
