"""Batches answered by `generate`: the same tokens as without all that listens, and counters and times that add up."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from engine.answering.answer import answer
from engine.answering.generation import answer_batch
from engine.contract.events import Prefilled, RequestDone, TokensDone
from engine.techniques.generation.settings import is_seq2seq
from tests.engine import language_models
from tests.engine.answering.asked import PROMPTS, Asked, config_of, job_of

NEW = 12


def plain(model: PreTrainedModel, prompt: tuple[int, ...], n: int = NEW, eos: int | None = None) -> list[int]:
    """What transformers alone answers."""
    settings = GenerationConfig(max_new_tokens=n, do_sample=False, eos_token_id=eos, pad_token_id=0)
    ids = torch.tensor([prompt])
    rows = model.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return rows[0, 1 if is_seq2seq(model) else len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mixtral", "gemma2", "t5", "bart"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_answers_are_those_of_plain_generate(kind: str, batch_size: int) -> None:
    """Of prompts of different lengths too, which are padded in a batch."""
    model, asked = language_models.make(kind), Asked()
    config = config_of(batch_size=batch_size, task=language_models.task_of(kind))
    job = job_of(model, asked, config)
    written = [
        writing
        for start in range(0, len(PROMPTS), batch_size)
        for writing in answer_batch(job, job.requests[start : start + batch_size], new_tokens=NEW)
    ]
    assert [writing.ids for writing in written] == [plain(model, prompt) for prompt in PROMPTS]


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What transformers warns of, which it does once in a process."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers.generation.utils")
    transformers_logging.warning_once.cache_clear()
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


@pytest.mark.parametrize("kv_cache", ["off", "dynamic", "static"])
def test_generate_has_nothing_to_warn_of(kv_cache: str, warned: list[str]) -> None:
    model, asked = language_models.make("llama"), Asked()
    job = job_of(model, asked, config_of(kv_cache=kv_cache, max_new_tokens=NEW))
    answer_batch(job, job.requests[:1], new_tokens=NEW)
    assert warned == []


@pytest.mark.parametrize("kv_cache", ["off", "dynamic", "static"])
def test_answers_do_not_depend_on_the_cache(kv_cache: str) -> None:
    model, asked = language_models.make("llama"), Asked()
    job = job_of(model, asked, config_of(kv_cache=kv_cache, max_new_tokens=NEW))
    written = answer_batch(job, job.requests[:1], new_tokens=NEW)
    assert written[0].ids == plain(model, PROMPTS[0])
    cached = {event.kv_cache for event in asked.of(TokensDone)}
    assert (cached == {0}) == (kv_cache == "off")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_times_and_counters_add_up(batch_size: int) -> None:
    asked = Asked()
    job = job_of(language_models.make("gpt2"), asked, config_of(batch_size=batch_size))
    answer_batch(job, job.requests[:batch_size], new_tokens=NEW)
    (prefilled,), parts, done = asked.of(Prefilled), asked.of(TokensDone), asked.of(RequestDone)
    gaps = [gap for part in parts for gap in part.gaps]
    assert len(done) == batch_size
    for request in done:
        assert prefilled.ttft_s + sum(gaps) == pytest.approx(request.e2e_s, abs=1e-9)
        assert request.ttft_s == prefilled.ttft_s
    arrived = batch_size + sum(sum(part.arrived) for part in parts)
    forwards = batch_size + sum(part.forwards for part in parts)
    assert arrived == forwards == batch_size * NEW == sum(request.new_tokens for request in done)
    for told, seconds in [(prefilled, prefilled.ttft_s), *((part, sum(part.gaps)) for part in parts)]:
        shares = told.shares
        assert shares.prefill + shares.decode + shares.draft + shares.sampling == pytest.approx(seconds, abs=1e-9)
    assert prefilled.prefill_s == prefilled.shares.prefill > 0
    assert all(part.shares.decode > 0 for part in parts)
    assert done[0].t == pytest.approx(parts[-1].t)


def test_an_encoder_reads_the_prompt_in_prefill() -> None:
    asked = Asked()
    model = language_models.make("t5")
    job = job_of(model, asked, config_of(task="seq2seq-lm"))
    read = []
    model.get_encoder().register_forward_hook(lambda *_: read.append(job.phase.value))
    answer_batch(job, job.requests[:1], new_tokens=3)
    assert read == ["prefill"]
    assert asked.of(Prefilled)[0].computed_tokens == len(PROMPTS[0])


def test_padding_is_computed_but_no_prompt_token() -> None:
    asked = Asked()
    job = job_of(language_models.make("gpt2"), asked, config_of(batch_size=4))
    answer_batch(job, job.requests, new_tokens=2)
    (prefilled,) = asked.of(Prefilled)
    assert prefilled.requests == (1, 2, 3, 4)
    assert prefilled.prompt_tokens == sum(map(len, PROMPTS))
    assert prefilled.computed_tokens == len(PROMPTS) * max(map(len, PROMPTS))


def test_an_answer_that_ends_early_no_longer_counts() -> None:
    """A static batch goes on with those that are left."""
    model = language_models.make("gpt2")
    answers = [plain(model, prompt) for prompt in PROMPTS]
    ends = next(token for token in answers[0] if sum(token in other for other in answers) < len(answers))
    expected = [ids[: ids.index(ends) + 1] if ends in ids else ids for ids in answers]
    asked = Asked()
    job = job_of(model, asked, config_of(batch_size=4, ignore_eos=False), eos=frozenset({ends}))
    written = answer_batch(job, job.requests, new_tokens=NEW)
    assert [writing.ids for writing in written] == expected
    assert [writing.reason for writing in written] == ["stop" if ends in ids else "length" for ids in answers]
    arrived = len(PROMPTS) + sum(sum(part.arrived) for part in asked.of(TokensDone))
    assert arrived == sum(map(len, expected))
    done = {event.request: event for event in asked.of(RequestDone)}
    assert [done[number].new_tokens for number in range(1, 5)] == list(map(len, expected))
    shortest, longest = min(expected, key=len), max(expected, key=len)
    assert done[expected.index(shortest) + 1].e2e_s < done[expected.index(longest) + 1].e2e_s


def test_the_settings_that_a_model_brings_do_not_change_what_is_asked_for() -> None:
    """Such as beams and penalties of its generation_config.json."""
    model = language_models.make("gpt2")
    expected = plain(model, PROMPTS[0])
    model.generation_config.update(num_beams=4, no_repeat_ngram_size=1, do_sample=True, temperature=3.0)
    asked = Asked()
    job = job_of(model, asked, config_of())
    assert answer_batch(job, job.requests[:1], new_tokens=NEW)[0].ids == expected


def test_chance_follows_the_seed_and_the_settings() -> None:
    model = language_models.make("gpt2")

    def sampled(**knobs: float) -> list[int]:
        torch.manual_seed(3)
        job = job_of(model, Asked(), config_of(**knobs))
        return answer_batch(job, job.requests[:1], new_tokens=NEW)[0].ids

    greedy = sampled()
    warm = sampled(temperature=5.0)
    assert warm == sampled(temperature=5.0)
    assert warm != greedy
    assert sampled(temperature=5.0, top_k=1) == greedy == sampled(temperature=0.1, top_p=0.01)


def test_events_are_few_and_their_texts_add_up_to_the_answer() -> None:
    asked = Asked()
    job = job_of(language_models.make("gpt2"), asked, config_of(max_new_tokens=40))
    written = answer(job)
    (first, *_) = asked.of(Prefilled)
    told = first.text + "".join(part.text for part in asked.of(TokensDone) if part.requests == (1,))
    assert told.split() == [str(token) for token in written[0].ids]
    for part in asked.of(TokensDone)[:-1]:  # the last of a request comes when it is done
        assert sum(part.gaps) >= 0.1 or part.t == pytest.approx(
            next(done.t for done in asked.of(RequestDone) if done.request in part.requests)
        )
