"""Where a run that answers is, for whoever asks from another thread, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.answering import job as jobs
from engine.answering import loading
from engine.answering.generation import answer_batch
from engine.contract.records import Outcome, Phase, Place
from tests.engine import language_models
from tests.engine.answering.asked import Asked, config_of, job_of, run


def test_a_place_names_request_and_token_once_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    model = language_models.make("gpt2")
    job = job_of(model, asked, config_of())
    places: list[Place | None] = []
    model.register_forward_pre_hook(lambda *_: places.append(job.place()))
    answer_batch(job, job.requests[2:3], new_tokens=3)
    assert places == [None] * 3  # nobody needs to be told of what is over at once
    monkeypatch.setattr(jobs, "LONG_S", 0.0)
    assert job.place() is None  # it has ended
    places.clear()
    answer_batch(job, job.requests[2:3], new_tokens=3)
    assert [(place.request, place.token, place.tokens) for place in places if place] == [
        (3, 1, 3),
        (3, 2, 3),
        (3, 3, 3),
    ]
    last = Place(phase=Phase.DECODE, request=3, requests=8, token=57, tokens=128)
    assert last.words == "request 3 of 8, token 57 of 128, decode"
    assert Place(phase=Phase.PREFILL, request=0, requests=8).words == "warm-up, prefill"


@pytest.mark.parametrize("ends", ["completed", "stopped", "failed"])
def test_the_model_is_given_back_however_the_run_ends(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[weakref.ref[torch.nn.Module]] = []
    build: Callable[..., Any] = loading.build

    def remembered(*args: Any) -> Any:
        model = build(*args)
        built.append(weakref.ref(model))
        if ends == "failed":
            model.register_forward_pre_hook(_fail)
        return model

    def _fail(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(loading, "build", remembered)
    monkeypatch.setattr(logging.getLogger("traintop"), "disabled", True)  # what pytest keeps of it holds the frames
    asked = run(config_of(kv_cache="static"), lambda events: ends == "stopped" and len(events) > 12)
    assert asked.record is not None
    assert asked.record.outcome is Outcome(ends)
    gc.collect()
    assert [model() for model in built] == [None]
    if ends == "failed":
        assert asked.record.failed_phase is not None
        assert (asked.record.message or "").startswith("Failed in ")
        assert "of warm-up: RuntimeError: broken on purpose." in (asked.record.message or "")
