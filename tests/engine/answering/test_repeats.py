"""Requests that ask what was asked before."""

from __future__ import annotations

import pytest

from engine.answering.repeats import repeated
from engine.answering.requests import Request

DISTINCT = [Request(number=number, input_ids=(number,)) for number in range(1, 41)]


@pytest.mark.parametrize(("share", "again"), [(0.0, 0), (0.25, 10), (0.5, 20), (1.0, 39)])
def test_a_share_asks_again_and_their_number_stays(share: float, again: int) -> None:
    requests = repeated(DISTINCT, share, seed=1)
    assert [request.number for request in requests] == list(range(1, 41))
    asked = [request.input_ids for request in requests]
    assert len(set(asked)) == 40 - again
    new = list(dict.fromkeys(asked))
    assert new == [request.input_ids for request in DISTINCT[: len(new)]]  # the last ones lose their place


def test_what_is_asked_again_is_drawn_by_the_seed() -> None:
    drawn = [[request.input_ids for request in repeated(DISTINCT, 0.5, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_request_asks_nothing_again() -> None:
    assert repeated(DISTINCT[:1], 1.0, seed=1) == DISTINCT[:1]
