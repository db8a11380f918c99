"""What listening costs: counted in calls and readings, not in seconds."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

import engine
from engine.answering import steps
from engine.answering.generation import answer_batch
from engine.answering.job import AnswerJob
from engine.contract.events import Prefilled, TokensDone
from engine.devices.base import Device
from engine.devices.virtual import VirtualDevice
from tests.engine import language_models
from tests.engine.answering.asked import Asked, config_of, job_of

ROOM = engine.__path__[0]
LOOPS = ("_take_in", "_tell")
"""Go through the tokens of a tenth of a second at once."""
MOST_CALLS = 9
"""Functions of ours that run for a token outside of loops: before and after its forward, and where it comes.

Each is cold by then, as a forward has gone through all of the weights: it takes ten times what it takes in a loop.
"""


def job(asked: Asked, batch_size: int = 1, **knobs: Any) -> AnswerJob:
    return job_of(language_models.make("gpt2"), asked, config_of(batch_size=batch_size, max_new_tokens=40, **knobs))


def calls(job: AnswerJob, batch_size: int, n: int) -> Counter[str]:
    """Of functions of the engine, outside of loops, while a batch has answers of `n` tokens."""
    found: Counter[str] = Counter()
    in_loops = 0

    def called(frame: FrameType, event: str, _: object) -> None:
        nonlocal in_loops
        name = frame.f_code.co_name
        if event not in ("call", "return") or not frame.f_code.co_filename.startswith(ROOM):
            return
        if name in LOOPS:
            in_loops += 1 if event == "call" else -1
        elif event == "call" and not in_loops:
            found[name] += 1

    sys.setprofile(called)
    try:
        answer_batch(job, job.requests[:batch_size], new_tokens=n)
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_token_costs_few_calls(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many prompts are answered at once: tokens are taken in when it is time to tell them."""
    monkeypatch.setattr(steps, "TOLD_EVERY_S", float("inf"))
    asking = job(Asked(), batch_size)
    calls(asking, batch_size, 4)
    more = calls(asking, batch_size, 40) - calls(asking, batch_size, 20)
    assert sum(more.values()) <= 20 * MOST_CALLS, more


def test_memory_is_read_when_something_is_told_and_at_no_other_time(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = []
    own = Device.memory_if_known

    def counted(device: Device) -> Any:
        readings.append(device)
        return own(device)

    monkeypatch.setattr(Device, "memory_if_known", counted)
    monkeypatch.setattr(steps, "TOLD_EVERY_S", float("inf"))
    asked = Asked()
    asking = job(asked)
    answer_batch(asking, asking.requests[:1], new_tokens=40)
    assert [len(event.gaps) for event in asked.of(TokensDone)] == [39]
    assert len(readings) == len(asked.of(Prefilled)) + len(asked.of(TokensDone)) == 2


def test_a_place_counts_the_tokens_that_are_not_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "TOLD_EVERY_S", float("inf"))
    asked, arrived = Asked(), list[int]()
    asking = job(asked)

    def look() -> bool:
        assert asking.steps is not None
        arrived.append(asking.steps.n_arrived)
        return False

    asking.should_stop = look
    answer_batch(asking, asking.requests[:1], new_tokens=8)
    assert arrived[-8:] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_virtual_card_looks_at_nothing_of_a_batch_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator and no layer's keys and values: it shows what the first one of the kind took in that step."""
    monkeypatch.setattr(steps, "TOLD_EVERY_S", float("inf"))
    asking = job(Asked())
    asking.device = device = VirtualDevice("tesla-p4", asking.config)
    with device.tracking():
        device.create_context()
        device.adopt(asking.model)
        first, again = (calls(asking, 1, 20) for _ in range(2))
        more = calls(asking, 1, 40)
        known = calls(asking, 1, 40) - again
    assert first["__torch_dispatch__"] > 20 < more["__torch_dispatch__"]
    assert again["__torch_dispatch__"] == again["keep"] == 0
    assert sum(known.values()) <= 20 * (MOST_CALLS + 6), known
