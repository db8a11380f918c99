"""Answers with guesses: the same tokens, counters that add up, and drafts that cannot guess refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, PreTrainedModel

from engine.answering.generation import answer_batch
from engine.answering.requests import Writing
from engine.answering.steps import Steps
from engine.contract.config import ConfigError
from engine.contract.events import AnsweringStarted, Prefilled, RequestDone, RunProgress, TokensCompared, TokensDone
from engine.contract.records import Outcome
from engine.techniques.generation import guessing
from engine.techniques.generation.settings import own_settings
from tests.engine import language_models
from tests.engine.answering.asked import Asked, config_of, job_of, run, save
from tests.engine.answering.test_generation import plain

NEW = 20
PROMPT = (11, 12, 13, 14, 15, 11, 12)


def speculating(
    model: PreTrainedModel,
    draft: PreTrainedModel | None,
    *,
    guessed: int = 3,
    eos: int | None = None,
    task: str = "causal-lm",
    temperature: float = 0.0,
) -> tuple[Writing, Asked]:
    asked = Asked()
    knobs = {"speculate": "lookup"} if draft is None else {"speculate": "draft", "draft_model": "gpt2-tiny"}
    config = config_of(task=task, speculate_tokens=guessed, max_new_tokens=NEW, temperature=temperature, **knobs)
    job = job_of(model, asked, config, (PROMPT,), eos=frozenset() if eos is None else frozenset((eos,)))
    if draft is not None:
        draft.eval()
        guessing.prepare(draft, config, own_settings(draft))
        job.draft = draft
    (writing,) = answer_batch(job, job.requests, new_tokens=NEW)
    return writing, asked


def other(kind: str) -> PreTrainedModel:
    """Of the same kind, with other weights."""
    torch.manual_seed(9)
    return language_models.MAKERS[kind]()


def counted(asked: Asked) -> tuple[int, int, int, int]:
    """Tokens that arrived, forwards, guesses proposed, guesses accepted; with those of the prefill."""
    parts = asked.of(TokensDone)
    arrived = 1 + sum(sum(part.arrived) for part in parts)
    forwards = 1 + sum(part.forwards for part in parts)
    return arrived, forwards, sum(part.proposed for part in parts), sum(part.accepted for part in parts)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "t5", "bart"])
@pytest.mark.parametrize("who", ["itself", "other", "lookup"])
def test_answers_are_those_of_plain_generate_and_counters_add_up(kind: str, who: str) -> None:
    if who == "lookup" and kind in ("t5", "bart"):
        pytest.skip("refused: see engine.contract.answering_combinations")
    drafts = {"itself": lambda: language_models.make(kind), "other": lambda: other(kind), "lookup": lambda: None}
    model = language_models.make(kind)
    writing, asked = speculating(model, drafts[who](), task=language_models.task_of(kind))
    assert writing.ids == plain(model, PROMPT, NEW)
    arrived, forwards, proposed, accepted = counted(asked)
    assert arrived == forwards + accepted == NEW == len(writing.guessed)
    assert sum(writing.guessed) == accepted <= proposed
    if who == "itself":
        assert accepted == proposed == NEW * 3 / 4
    if who == "other" and kind == "llama":  # its embedding is not its output layer: it does not repeat what it read
        assert accepted == 0 < proposed


def test_an_answer_that_ends_among_accepted_guesses_still_adds_up() -> None:
    """The token that ends it counts as the forward's own, and guesses after it as wasted."""
    model = language_models.make("llama")
    ids = plain(model, PROMPT, NEW)
    eos = next(token for place, token in enumerate(ids) if place % 4 in (1, 2) and token not in ids[:place])
    writing, asked = speculating(model, language_models.make("llama"), eos=eos)
    assert writing.ids == ids[: ids.index(eos) + 1]
    assert writing.reason == "stop"
    arrived, forwards, proposed, accepted = counted(asked)
    assert arrived == len(writing.ids) == forwards + accepted
    assert accepted < proposed


def test_times_add_up_and_guessing_has_its_own() -> None:
    writing, asked = speculating(language_models.make("gpt2"), other("gpt2"))
    (prefilled,), parts = asked.of(Prefilled), asked.of(TokensDone)
    assert prefilled.ttft_s + sum(sum(part.gaps) for part in parts) == pytest.approx(writing.e2e_s, abs=1e-9)
    assert prefilled.shares.draft > 0
    assert all(part.shares.draft > 0 for part in parts)
    for told, seconds in [(prefilled, prefilled.ttft_s), *((part, sum(part.gaps)) for part in parts)]:
        shares = told.shares
        assert shares.prefill + shares.decode + shares.draft + shares.sampling == pytest.approx(seconds, abs=1e-9)


def test_guesses_stand_where_they_are_in_the_text() -> None:
    """Without a tokenizer a token is its number."""
    writing, asked = speculating(language_models.make("gpt2"), language_models.make("gpt2"))
    told = [part.text[a:b] for part in asked.of(TokensDone) for a, b in part.guessed]
    right = [token for token, guessed in zip(writing.ids, writing.guessed, strict=True) if guessed]
    # the guesses that came along with the first token are told with it
    assert " ".join(told).split() == [str(token) for token in right][-len(" ".join(told).split()) :]
    assert len(" ".join(told).split()) >= len(right) - 1


def test_keys_and_values_of_the_draft_count() -> None:
    _, without = speculating(language_models.make("gpt2"), None)
    _, beside = speculating(language_models.make("gpt2"), language_models.make("gpt2"))
    ratio = beside.of(TokensDone)[-1].kv_cache / without.of(TokensDone)[-1].kv_cache
    assert 1.5 < ratio <= 2.0  # the draft has not read the last tokens


def test_drawn_tokens_are_the_same_for_the_same_seed() -> None:
    texts = []
    for _ in range(2):
        torch.manual_seed(4)
        writing, asked = speculating(language_models.make("llama"), other("llama"), temperature=1.0)
        texts.append(writing.ids)
        arrived, forwards, _, accepted = counted(asked)
        assert arrived == forwards + accepted == NEW
    assert texts[0] == texts[1]


def test_a_run_with_a_draft_tells_what_it_takes_and_what_it_gained(tmp_path: Path) -> None:
    folder = save("llama", tmp_path / "llama")
    asked = run(config_of(folder, speculate="draft", draft_model=folder, max_new_tokens=NEW))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    (started,), (compared,) = asked.of(AnsweringStarted), asked.of(TokensCompared)
    assert started.draft_weights == started.weights
    assert started.draft_parameters == started.n_parameters
    assert compared.promised
    assert compared.n_same == compared.n_tokens == 2 * NEW
    assert asked.record.answer is not None
    assert asked.record.answer.acceptance == 1.0
    assert (asked.record.message or "").startswith("Speculation: ")
    assert "gave 5.00 tokens" in (asked.record.message or "")


def test_a_draft_is_accounted_for_on_a_virtual_card(tmp_path: Path) -> None:
    folder = save("llama", tmp_path / "llama")
    card = {"device": "virtual:tesla-p4"}
    alone, beside = (
        run(config_of(folder, **card, **more)).record
        for more in ({"speculate": "lookup"}, {"speculate": "draft", "draft_model": folder})
    )
    assert alone is not None
    assert beside is not None
    assert alone.answer is not None
    weights = alone.answer.weights
    assert weights is not None
    assert alone.peak_allocated is not None
    assert beside.peak_allocated is not None
    assert beside.peak_allocated - alone.peak_allocated >= weights


def _gpt2(folder: Path, **more: int) -> str:
    torch.manual_seed(1)
    sizes = {"vocab_size": 200, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 64, **more}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(folder)
    return str(folder)


def _mamba(folder: Path) -> str:
    MambaForCausalLM(
        MambaConfig(vocab_size=200, hidden_size=16, num_hidden_layers=1, state_size=4, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(folder)
    return str(folder)


def test_drafts_that_cannot_guess_are_refused_with_the_reason(tmp_path: Path) -> None:
    model = _gpt2(tmp_path / "own")
    cases = {
        _gpt2(tmp_path / "larger-vocabulary", vocab_size=210): ("draft_model", "knows 210 tokens and own 200"),
        _gpt2(tmp_path / "shorter", n_positions=16): ("prompt_len", "16 positions of shorter"),
        _mamba(tmp_path / "stateful"): ("draft_model", "keeps one state"),
        save("t5", tmp_path / "t5"): ("draft_model", "t5"),
        str(tmp_path / "nowhere"): ("draft_model", "--draft-model"),
    }
    for draft, (knob, words) in cases.items():
        with pytest.raises(ConfigError) as refused:
            run(config_of(model, speculate="draft", draft_model=draft))
        assert (refused.value.knob, words in refused.value.message) == (knob, True), refused.value.message


def test_lookup_reads_guesses_beyond_the_answer_only_where_there_are_positions(tmp_path: Path) -> None:
    """transformers checks all that followed a match, also where fewer tokens are left to write."""
    model = _gpt2(tmp_path / "own")  # of 64 positions
    fits = config_of(model, speculate="lookup", speculate_tokens=10, prompt_len=36, max_new_tokens=20)
    asked = run(fits)
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED, asked.record.message
    with pytest.raises(ConfigError, match="positions"):
        run(fits.with_values(prompt_len=37))
    assert not [event for event in asked.of(RunProgress) if "sampling" in event.detail]


def test_a_prefix_cache_beside_guesses_is_refused() -> None:
    """transformers would check the first guesses with the whole prompt, and with what the cache has of it once more."""
    with pytest.raises(ConfigError, match="--prefix-cache off"):
        config_of(speculate="lookup", prefix_cache=True)


def test_steps_say_which_of_several_tokens_are_guesses() -> None:
    job = job_of(language_models.make("gpt2"), Asked(), config_of(speculate="lookup"), (PROMPT,))
    steps = Steps(job, [Writing(request=job.requests[0])], new_tokens=NEW, warmup=False)
    steps.put(torch.tensor([PROMPT]))
    steps.put(torch.tensor([[5, 6, 7]]))
    assert steps.writings[0].guessed == [True, True, False]


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        ({"temperature": 1.0}, "with --temperature plain generate writes other answers"),
        ({"device": "virtual:tesla-p4"}, "on a virtual GPU times are the CPU's"),
        ({"max_new_tokens": 1}, "too few tokens were written"),
    ],
)
def test_whether_guessing_paid_or_what_is_missing_to_tell(tmp_path: Path, knobs: dict[str, Any], why: str) -> None:
    folder = save("llama", tmp_path / "llama")
    asked = run(config_of(folder, **{"speculate": "lookup", "max_new_tokens": NEW, **knobs}))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    assert asked.record.message is None
    said = [event.detail for event in asked.of(RunProgress) if "guessing paid" in event.detail]
    assert said == [
        f"Whether guessing paid is not measured: {why}. Run the same with --speculate off, and compare the two rows."
    ]


def test_a_run_tells_how_much_its_answers_go_round(tmp_path: Path) -> None:
    asked = run(config_of(save("llama", tmp_path / "llama"), max_new_tokens=NEW))
    assert asked.record is not None
    assert asked.record.answer is not None
    told = [event.looped for event in asked.of(RequestDone) if not event.warmup]
    assert asked.record.answer.looped == pytest.approx(sum(share or 0.0 for share in told) / len(told))
