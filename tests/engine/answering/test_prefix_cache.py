"""What prompts begin with in common is computed once, and the answers stay those of plain `generate`."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from engine.answering.answer import answer
from engine.answering.prefix_cache import MOST, PrefixCache
from engine.contract.answering_knobs import LEAST_PREFIX
from engine.contract.events import CachesHold, Prefilled, RequestDone
from engine.techniques.generation import caches
from tests.engine import language_models
from tests.engine.answering.asked import Asked, config_of, job_of, plainly, run, save

NEW = 8


def _tokens(n: int, seed: int) -> tuple[int, ...]:
    source = random.Random(seed)
    return tuple(source.randrange(5, language_models.VOCABULARY) for _ in range(n))


SYSTEM = _tokens(20, 1)
PROMPTS = [(*SYSTEM, 10 + n, *_tokens(n, n)) for n in (3, 8, 0, 5, 2)]


def _answered(
    model: PreTrainedModel, prompts: list[tuple[int, ...]], **knobs: Any
) -> tuple[Asked, dict[int, list[int]], PrefixCache]:
    """The answers by request's number."""
    asked = Asked()
    job = job_of(model, asked, config_of(prefix_cache=True, max_new_tokens=NEW, **knobs), prompts)
    job.prefixes = PrefixCache(prompts, model)
    written: dict[int, list[int]] = {}
    done = job.emit

    def emit(event: Any) -> None:
        if isinstance(event, RequestDone):
            written[event.request] = [int(token) for token in event.text.split()]
        done(event)

    job.emit = emit
    answer(job)
    return asked, written, job.prefixes


@pytest.mark.parametrize("kv_cache", ["dynamic", "static"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_answers_are_those_of_plain_generate(kind: str, batch_size: int, kv_cache: str) -> None:
    """Also where prompts of a batch have ends of different lengths: padding stands behind the prefix."""
    model = language_models.make(kind)
    asked, written, _ = _answered(model, PROMPTS, batch_size=batch_size, kv_cache=kv_cache)
    assert written == {number: plainly(model, prompt, NEW) for number, prompt in enumerate(PROMPTS, 1)}
    first, *others = asked.of(Prefilled)
    assert first.cached_tokens == 0
    for event in others:
        rows = len(event.requests)
        longest = max(len(PROMPTS[number - 1]) for number in event.requests)
        assert event.cached_tokens == rows * len(SYSTEM)
        assert event.computed_tokens == rows * (longest - len(SYSTEM))
    hits = {event.request: event.hit for event in asked.of(RequestDone)}
    assert [hits[number] for number in sorted(hits)] == [None] * batch_size + ["prefix"] * (5 - batch_size)


@pytest.mark.parametrize("kv_dtype", ["model", "int8"])
def test_what_is_held_is_one_prefix_whatever_the_batch(kv_dtype: str) -> None:
    model = language_models.make("llama")
    per_token = caches.kv_bytes_per_token(model.config, kv_dtype, torch.float32)
    for batch_size in (1, 2):
        asked, _, prefixes = _answered(model, PROMPTS, batch_size=batch_size, kv_dtype=kv_dtype)
        assert prefixes.held == len(SYSTEM) * per_token
        assert [event.held for event in asked.of(CachesHold)] == [prefixes.held]  # kept once, by the first batch


def test_int8_goes_on_from_a_prefix_as_from_its_own_rounded_tokens() -> None:
    """A prefix is rounded when it is first kept, and never again."""
    model = language_models.make("llama")
    prompts = [PROMPTS[0], PROMPTS[0]]
    _, written, _ = _answered(model, prompts, kv_dtype="int8")
    assert written[1] == written[2]


def test_a_prompt_that_is_asked_again_leaves_one_token_to_compute() -> None:
    model = language_models.make("gpt2")
    asked, written, _ = _answered(model, [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert written[3] == written[1] == plainly(model, PROMPTS[0], NEW)
    assert asked.of(Prefilled)[2].computed_tokens == 1


def test_prompts_that_share_little_share_nothing() -> None:
    model = language_models.make("gpt2")
    short = SYSTEM[: LEAST_PREFIX - 1]
    prompts = [(*short, *_tokens(4, 1)), (*short, *_tokens(4, 2)), _tokens(30, 3)]
    asked, _, prefixes = _answered(model, prompts)
    assert {event.cached_tokens for event in asked.of(Prefilled)} == {0}
    assert prefixes.held == 0


def test_of_many_prefixes_those_used_last_stay() -> None:
    model = language_models.make("gpt2")
    systems = [_tokens(LEAST_PREFIX, seed) for seed in range(100, 101 + MOST)]
    prompts = [(*system, 7, seed) for seed in (8, 9) for system in systems]
    asked, _, prefixes = _answered(model, prompts)
    assert prefixes.held == MOST * (LEAST_PREFIX + 1) * caches.kv_bytes_per_token(model.config, "model", torch.float32)
    # the first was dropped for the last one, and each that came back for the next
    assert {event.cached_tokens for event in asked.of(Prefilled)} == {0}
    kept = list(dict.fromkeys([*prompts[: MOST + 1], *reversed(prompts[: MOST + 1])]))
    asked, _, _ = _answered(model, [*kept, *((*ids, 3) for ids in reversed(kept))])
    assert [event.cached_tokens > 0 for event in asked.of(Prefilled)][MOST + 1 :] == [True] * MOST + [False]


def test_a_model_that_counts_columns_takes_no_prefix_where_padding_would_part_them() -> None:
    from transformers import MptConfig, MptForCausalLM

    torch.manual_seed(2)
    model = MptForCausalLM(MptConfig(vocab_size=language_models.VOCABULARY, d_model=32, n_layers=2, n_heads=4))
    asked, written, _ = _answered(model, PROMPTS, batch_size=2)
    assert written == {number: plainly(model, prompt, NEW) for number, prompt in enumerate(PROMPTS, 1)}
    assert [event.cached_tokens for event in asked.of(Prefilled)] == [0, 0, len(SYSTEM)]  # the last is alone


def test_a_whole_run_is_warmed_up_without_it_and_compared(tmp_path: Any) -> None:
    folder = save("gpt2", tmp_path / "gpt2")
    asked = run(config_of(folder, prefix_cache=True, prefix_len=24, prompt_len=30, requests=3))
    assert [event.cached_tokens for event in asked.of(Prefilled)] == [0, 0, 24, 24]
    from engine.contract.events import TokensCompared

    (compared,) = asked.of(TokensCompared)
    assert compared.promised
    assert compared.n_same == compared.n_tokens > 0
