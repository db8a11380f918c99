"""A course that is played for its verdict alone, beside the same one that tells everything."""

from __future__ import annotations

from typing import Any

import pytest

from engine.allocator.allocator import CachingAllocator
from engine.forecast.answering.course import MOST_EVENTS, Answered, Course
from engine.forecast.answering.forecast import FEW_EVENTS
from engine.forecast.answering.record import AnswerPlan
from engine.forecast.answering.template import Template
from engine.forecast.answering.traces import AnswerTraces
from engine.forecast.prepare import build_on_meta
from engine.forecast.sources import find_source
from engine.gpus.catalogue import find
from engine.techniques.generation.settings import own_settings
from engine.tracing.stack import STACKS
from tests.engine.answering.asked import config_of


def template(batch: int, width: int, **knobs: Any) -> Template:
    config, stack = config_of(device="auto", model="llama-tiny", **knobs), STACKS["current"]
    model: Any = build_on_meta(find_source(config, None, 0.0, None).model, config, stack, n_labels=2, vocab_size=None)
    model.eval()
    model.generation_config = own_settings(model)
    plan = AnswerPlan(config=config, model=model, gpu=find("tesla-p4"), stack=stack)
    return AnswerTraces(plan, (width, 40)).template(batch, width, 40)


def figures(made: Answered) -> tuple[int, int, bool]:
    return made.peak_allocated, made.peak_reserved, made.failed_phase is None


@pytest.mark.parametrize("knobs", [{}, {"kv_cache": "off"}, {"kv_dtype": "int8"}])
def test_a_verdict_alone_is_that_of_the_whole_story(knobs: dict[str, Any]) -> None:
    plan = template(6, 180, **knobs)
    free = Course(CachingAllocator(None), plan).answer(40)
    assert 0 < plan.least <= free.peak_allocated
    for share in (0.5, 0.9, 0.97, 1.0):
        capacity = int(free.peak_reserved * share)
        for most_events in (FEW_EVENTS, MOST_EVENTS):
            told, alone = (
                Course(CachingAllocator(capacity), plan, most_events=most_events, is_told=each).answer(40)
                for each in (True, False)
            )
            assert figures(told) == figures(alone)
            if told.failed_phase is None:
                assert plan.least <= capacity
                assert sum(told.by_category.values()) == told.peak_allocated


def test_what_prefill_needs_at_the_least_is_told_without_an_allocator() -> None:
    """Where one batch is scored it needs that much and what its blocks are too large by."""
    plan = template(4, 512)
    free = Course(CachingAllocator(None), plan).answer(1)
    assert plan.least == pytest.approx(free.peak_allocated, rel=0.02)
