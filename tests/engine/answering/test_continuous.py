"""transformers' continuous batching: the tokens of plain `generate`, and counters and times that add up."""

from __future__ import annotations

from typing import Any

import pytest

from engine.answering.continuous import answer_continuously, refuse
from engine.contract.config import ConfigError
from engine.contract.events import Prefilled, RequestDone, TokensCompared, TokensDone
from engine.contract.records import Outcome
from engine.techniques.stopping import Stopped
from tests.engine import language_models
from tests.engine.answering.asked import PROMPTS, Asked, config_of, job_of, plainly, run, save

NEW = 10


def _config(**knobs: Any) -> Any:
    return config_of(batching="continuous", batch_size=2, max_new_tokens=NEW, **knobs)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_answers_are_those_of_plain_generate_and_counters_add_up(kind: str) -> None:
    model, asked = language_models.make(kind), Asked()
    job = job_of(model, asked, _config())
    before = model.config._attn_implementation
    written = answer_continuously(job, job.requests, new_tokens=NEW)
    assert [writing.ids for writing in written] == [plainly(model, prompt, NEW) for prompt in PROMPTS]
    assert model.config._attn_implementation == before
    assert not model._forward_hooks
    first, steps, done = asked.of(Prefilled), asked.of(TokensDone), asked.of(RequestDone)
    assert sorted(number for event in first for number in event.requests) == [1, 2, 3, 4]
    assert sum(event.prompt_tokens for event in first) == sum(map(len, PROMPTS))
    assert sum(sum(event.arrived) for event in steps) + len(PROMPTS) == len(PROMPTS) * NEW
    assert sum(event.forwards for event in steps) + len(PROMPTS) == len(PROMPTS) * NEW
    assert all(len(event.requests) <= 2 for event in steps)
    assert all(0 < event.ttft_s <= event.e2e_s for event in done)
    assert {event.kv_cache for event in steps} - {0}


def test_time_is_told_once() -> None:
    """The shares of all events together are the time from the beginning to the last token."""
    model, asked = language_models.make("llama"), Asked()
    job = job_of(model, asked, _config())
    answer_continuously(job, job.requests, new_tokens=NEW)
    assert job.steps is not None
    told = sum(
        sum(vars_of)
        for event in (*asked.of(Prefilled), *asked.of(TokensDone))
        for vars_of in [(event.shares.prefill, event.shares.decode, event.shares.draft, event.shares.sampling)]
    )
    last = max(event.t for event in asked.of(RequestDone))
    assert told == pytest.approx(last - (job.steps.began - job.began), abs=1e-6)
    gaps = [gap for event in asked.of(TokensDone) for gap in event.gaps]
    assert min(gaps) > 0


def test_an_answer_ends_with_its_token() -> None:
    model = language_models.make("llama")
    ends = plainly(model, PROMPTS[1], NEW)[3]
    asked = Asked()
    job = job_of(model, asked, _config(ignore_eos=False), eos=frozenset({ends}))
    written = answer_continuously(job, job.requests, new_tokens=NEW)
    for writing in written:
        whole = plainly(model, writing.request.input_ids, NEW)
        n = whole.index(ends) + 1 if ends in whole else NEW
        assert (writing.ids, writing.reason) == (whole[:n], "stop" if ends in whole[:n] else "length")


def test_stopping_keeps_what_was_written() -> None:
    model, asked = language_models.make("llama"), Asked()
    job = job_of(model, asked, _config(), should_stop=lambda: bool(asked.of(RequestDone)))
    with pytest.raises(Stopped):
        answer_continuously(job, job.requests, new_tokens=NEW)
    reasons = [event.reason for event in asked.of(RequestDone)]
    assert "length" in reasons
    assert len(reasons) < len(PROMPTS) or "stopped" in reasons
    assert not model._forward_hooks


def test_what_fails_in_the_managers_thread_ends_the_run() -> None:
    model = language_models.make("llama")
    job = job_of(model, Asked(), _config())

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no such layer")

    model.model.layers[1].register_forward_pre_hook(broken)
    with pytest.raises((ZeroDivisionError, RuntimeError), match="no such layer"):
        answer_continuously(job, job.requests, new_tokens=NEW)


def test_a_model_with_attention_of_its_own_is_refused() -> None:
    from transformers import MptConfig, MptForCausalLM

    model = MptForCausalLM(MptConfig(vocab_size=50, d_model=32, n_layers=1, n_heads=4))
    with pytest.raises(ConfigError, match="--batching static"):
        refuse(_config(), model)
    refuse(config_of(), model)


def test_a_whole_run(tmp_path: Any) -> None:
    asked = run(config_of(save("gpt2", tmp_path / "gpt2"), batching="continuous", batch_size=2, requests=3))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    assert sorted(event.request for event in asked.of(RequestDone)) == [-1, 0, 1, 2, 3]
    (compared,) = asked.of(TokensCompared)
    assert not compared.promised
    assert compared.n_same == compared.n_tokens


def test_a_virtual_card_refuses_it(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="--batching static"):
        run(config_of(save("gpt2", tmp_path / "gpt2"), batching="continuous", batch_size=2, device="virtual:tesla-p4"))
