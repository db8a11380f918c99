"""A prompt that was asked before is answered by what was written then."""

from __future__ import annotations

import pytest

from engine.answering.answer import answer
from engine.answering.requests import Request, Writing
from engine.answering.response_cache import ResponseCache
from engine.contract.events import CachesHold, Prefilled, RequestDone, TokensDone
from tests.engine import language_models
from tests.engine.answering.asked import Asked, config_of, job_of

NEW = 6
A, B, C, D = tuple(range(10, 16)), tuple(range(20, 30)), (7, 8, 9), tuple(range(40, 47))
ASKED = [A, B, A, A, C, B, D]


@pytest.mark.parametrize(
    ("batch_size", "computed"), [(1, [(1,), (2,), (5,), (7,)]), (2, [(1, 2), (5, 7)]), (3, [(1, 2, 5), (7,)])]
)
def test_hits_leave_their_place_in_a_batch_to_others(batch_size: int, computed: list[tuple[int, ...]]) -> None:
    asked = Asked()
    config = config_of(response_cache=True, batch_size=batch_size, max_new_tokens=NEW)
    job = job_of(language_models.make("llama"), asked, config, ASKED)
    job.responses = ResponseCache()
    answer(job)
    assert [event.requests for event in asked.of(Prefilled)] == computed
    done = {event.request: event for event in asked.of(RequestDone)}
    assert sorted(done) == [1, 2, 3, 4, 5, 6, 7]
    assert {number for number, event in done.items() if event.hit == "response"} == {3, 4, 6}
    for number, ids in enumerate(ASKED, 1):
        assert done[number].text == done[ASKED.index(ids) + 1].text
        assert (done[number].new_tokens, done[number].reason) == (NEW, "length")
        if done[number].hit:
            assert done[number].cached_tokens == done[number].prompt_tokens == len(ids)
            assert done[number].ttft_s == done[number].e2e_s
    forwards = sum(event.forwards for event in asked.of(TokensDone)) + 4
    assert forwards == 4 * NEW  # a hit has none
    assert job.held == 4 * sum(len(ids) + NEW for ids in (A, B, C, D))
    told = [event.held for event in asked.of(CachesHold)]
    assert told == sorted(told)
    assert len(told) == len(computed)
    assert told[-1] == job.held  # that of the last batch too


def _answered(number: int, reason: str = "length", n: int = 3) -> Writing:
    return Writing(request=Request(number=number, input_ids=(number, 2)), ids=[1] * n, reason=reason)


def test_an_answer_that_was_stopped_is_not_kept() -> None:
    responses = ResponseCache()
    responses.keep(_answered(1, "stopped"))
    assert responses.find(Request(number=9, input_ids=(1, 2))) is None
    responses.keep(_answered(1, "stop"))
    found = responses.find(Request(number=9, input_ids=(1, 2)))
    assert found is not None
    assert (list(found.ids), found.reason) == ([1, 1, 1], "stop")


def test_of_many_answers_those_used_last_stay() -> None:
    responses = ResponseCache(most_bytes=3 * 5 * 4)
    for number in (1, 2, 3):
        responses.keep(_answered(number))
    assert responses.held == 60
    assert responses.find(Request(number=9, input_ids=(1, 2))) is not None
    responses.keep(_answered(4))
    assert responses.held == 60
    known = [number for number in (1, 2, 3, 4) if responses.find(Request(number=9, input_ids=(number, 2)))]
    assert known == [1, 3, 4]
