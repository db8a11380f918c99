"""The search for what fits, against made-up memories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.config import ConfigError, RunConfig
from engine.contract.knob import SCRIPT
from engine.plans.search import (
    BATCH_SIZE,
    LARGEST,
    PROMPT_LEN,
    SCRIPT_UPDATES,
    TRY_UPDATES,
    Fit,
    LimitSearch,
    config_of_try,
)


def search(fits: Callable[[int], bool], **settings: Any) -> LimitSearch:
    """Ask and answer until the search is over."""
    looking = LimitSearch(**settings)
    while (size := looking.next()) is not None:
        assert size not in looking.tried
        assert 1 <= size <= looking.largest
        looking.tell(size, Fit.FITS if fits(size) else Fit.TOO_LARGE)
    return looking


@given(st.integers(0, 70_000))
def test_the_exact_boundary_in_twice_the_logarithm(boundary: int) -> None:
    found = search(lambda size: size <= boundary)
    assert found.fits == min(boundary, LARGEST)
    assert len(found.tried) <= 2 * max(1, min(boundary, LARGEST).bit_length())


@given(st.integers(0, 5_000), st.integers(1, 70_000))
def test_it_may_begin_anywhere(boundary: int, first: int) -> None:
    assert search(lambda size: size <= boundary, first=first).fits == boundary


@given(st.lists(st.booleans(), min_size=64, max_size=64), st.integers(1, 64))
def test_a_memory_that_is_not_monotone_still_ends_at_a_size_that_fitted(answers: list[bool], first: int) -> None:
    found = search(lambda size: answers[size - 1], first=first, largest=64)
    assert found.fits == 0 or answers[found.fits - 1]
    if found.fails is not None:
        assert found.fails == found.fits + 1
        assert not answers[found.fails - 1]
    else:
        assert found.fits == 64
    assert len(found.tried) <= 64


def test_what_it_says_when_it_found_the_boundary() -> None:
    found = search(lambda size: size <= 8)
    assert list(found.tried) == [1, 2, 4, 8, 16, 12, 10, 9]
    assert found.finding() == "largest batch size that fits: 8 (9 does not; 8 tries)."


def test_nothing_fits() -> None:
    assert search(lambda size: False).finding() == "no batch size fits (1 does not; 1 try)."


def test_everything_fits() -> None:
    assert search(lambda size: True, largest=4).finding() == (
        "largest batch size that fits: 4, which is the largest there is (3 tries)."
    )


def test_a_run_that_breaks_ends_the_search_with_its_reason() -> None:
    looking = LimitSearch()
    for size, fit in ((1, Fit.FITS), (2, Fit.FITS), (4, Fit.BROKEN)):
        assert looking.next() == size
        looking.tell(size, fit, "Failed in forward: no such kernel.")
    assert looking.next() is None
    assert looking.finding() == (
        "largest batch size known to fit: 2; the search ended (3 tries): Failed in forward: no such kernel."
    )


def test_too_little_data_is_not_called_too_little_memory() -> None:
    looking = LimitSearch()
    while (size := looking.next()) is not None:
        looking.tell(size, Fit.FITS if size <= 5 else Fit.NO_DATA)
    assert looking.finding() == ("largest batch size that fits: 5; the data has too few samples for 6 (6 tries).")


def test_a_try_is_a_few_whole_updates_of_the_same_run() -> None:
    base = RunConfig(batch_size=3, gradient_accumulation_steps=4, epochs=5, samples=10_000, seq_len=64)
    tried = config_of_try(base, BATCH_SIZE, 16)
    assert tried.samples == TRY_UPDATES * 16 * 4
    assert (tried.epochs, tried.batch_size, tried.seq_len) == (1, 16, 64)
    assert config_of_try(base.with_values(gpus=2), BATCH_SIZE, 16).samples == TRY_UPDATES * 16 * 4 * 2
    anywhere = config_of_try(base.with_values(gpus=None), BATCH_SIZE, 16)
    assert anywhere.samples >= TRY_UPDATES * 16 * 4 * 8, "as many as there are"


@pytest.mark.parametrize("size", [1, LARGEST])
def test_the_largest_batch_size_can_be_tried(size: int) -> None:
    assert config_of_try(RunConfig(gradient_accumulation_steps=65_536), BATCH_SIZE, size).samples <= 10_000_000


@pytest.mark.parametrize("boundary", [1, 255, 256, 700, 1023, 1024, 5_000, 900_000])
def test_a_prompts_limit_is_known_to_an_eighth(boundary: int) -> None:
    found = search(lambda length: length <= boundary, knob=PROMPT_LEN, first=256, largest=1_048_576)
    assert found.fits <= boundary
    if found.fails is None:
        assert found.fits == 1_048_576 or boundary >= 524_288
    else:
        assert found.fits <= boundary < found.fails <= found.fits + max(1, found.fits // 8)
    assert len(found.tried) <= 17


def test_what_it_says_of_prompts() -> None:
    found = search(lambda length: length <= 700, knob=PROMPT_LEN, first=256)
    assert list(found.tried) == [256, 512, 1024, 768, 640, 704]
    assert found.finding() == "longest prompt that fits: 640 tokens (704 does not; 6 tries)."
    looking = LimitSearch(knob=PROMPT_LEN, first=256)
    while (length := looking.next()) is not None:
        looking.tell(length, Fit.FITS if length <= 960 else Fit.NO_DATA)
    assert looking.finding() == "longest prompt that fits: 960 tokens; the model has no positions for 1024 (6 tries)."


def test_a_try_of_answers_is_one_full_batch_or_one_prompt() -> None:
    base = RunConfig(job="answer", task="causal-lm", model="gpt2-tiny", batch_size=1, requests=7, prompt_len=64)
    tried = config_of_try(base, BATCH_SIZE, 16)
    assert (tried.batch_size, tried.requests, tried.prompt_len) == (16, 16, 64)
    tried = config_of_try(base, PROMPT_LEN, 512)
    assert (tried.batch_size, tried.requests, tried.prompt_len) == (1, 7, 512)


SCRIPTED = RunConfig(job=SCRIPT, command="python train.py --b={batch_size}")


def test_a_try_of_a_script_is_its_first_updates() -> None:
    tried = config_of_try(SCRIPTED, BATCH_SIZE, 32)
    assert (tried.batch_size, tried.max_updates) == (32, SCRIPT_UPDATES)
    assert config_of_try(SCRIPTED.with_values(max_updates=50), BATCH_SIZE, 32).max_updates == 50
    added = config_of_try(RunConfig(job=SCRIPT, command="python run.py", command_flags="transformers"), BATCH_SIZE, 4)
    assert added.command == "python run.py --per_device_train_batch_size={batch_size}"
    with pytest.raises(ConfigError, match=r"put \{batch_size\} where its value belongs"):
        config_of_try(RunConfig(job=SCRIPT, command="python train.py"), BATCH_SIZE, 32)
