"""How much an answer says again."""

from __future__ import annotations

import pytest

from engine.answering.loops import looped


def test_the_share_of_runs_of_four_tokens_that_were_there_before() -> None:
    assert looped(range(20)) == 0.0
    assert looped([7] * 11) == pytest.approx(7 / 8)  # 8 runs, all the same
    assert looped([1, 2, 3] * 4) == pytest.approx(6 / 9)  # 9 runs, 3 of them different
    assert looped([1, 2, 3, 4, 5, 1, 2, 3, 4]) == pytest.approx(1 / 6)


def test_an_answer_that_is_too_short_says_nothing() -> None:
    for n in range(5):
        assert looped([1] * n) is None
    assert looped([1] * 5) == 0.5
