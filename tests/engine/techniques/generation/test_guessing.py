"""Guesses of transformers' assisted generation: as many as asked for, timed where it can be, and never another text."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from transformers import GenerationConfig, MambaConfig, MambaForCausalLM, PreTrainedModel

from engine.contract.config import ConfigError, RunConfig
from engine.techniques.generation import guessing
from tests.engine import language_models

PROMPT = torch.tensor([[11, 12, 13, 14, 11, 12]])
NEW = 16


@dataclass
class Told:
    """A listener that keeps what it is told."""

    guesses: list[bool] = field(default_factory=list)

    def guess(self, begins: bool) -> None:
        self.guesses.append(begins)


def config_of(speculate: str, guessed: int = 3) -> RunConfig:
    draft = "gpt2-tiny" if speculate == "draft" else None
    return RunConfig(
        job="answer",
        model="gpt2",
        task="causal-lm",
        batch_size=1,
        speculate=speculate,
        speculate_tokens=guessed,
        draft_model=draft,
    )


def make(kind: str) -> PreTrainedModel:
    return language_models.make(kind).eval()


def written(
    model: PreTrainedModel, config: RunConfig, draft: PreTrainedModel | None = None
) -> tuple[list[int], list[bool], list[int]]:
    """The text; when guessing began and ended; how many tokens each forward of the model read."""
    told, read = Told(), []
    if draft is not None:
        guessing.prepare(draft, config, GenerationConfig())
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with guessing.speculating(config, model, draft, told) as speculation:
        settings = GenerationConfig(
            max_new_tokens=NEW, do_sample=False, use_cache=True, pad_token_id=0, **speculation.settings
        )
        ids = model.generate(PROMPT, generation_config=settings, **speculation.given)
    hook.remove()
    return ids[0].tolist(), told.guesses, read


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("speculate", ["lookup", "draft"])
def test_the_text_is_that_of_plain_generate(kind: str, speculate: str) -> None:
    torch.manual_seed(3)
    draft = language_models.MAKERS[kind]().eval() if speculate == "draft" else None
    plain, _, _ = written(make(kind), config_of("off"))
    assert written(make(kind), config_of(speculate), draft)[0] == plain


def test_a_draft_guesses_as_many_tokens_each_time_as_asked_for() -> None:
    """transformers' own default is 20, fewer where the draft is unsure."""
    torch.manual_seed(3)
    draft = language_models.MAKERS["gpt2"]().eval()
    _, _, read = written(make("gpt2"), config_of("draft", 3), draft)
    assert read[0] == PROMPT.shape[1] + 3
    assert read[1] == max(read[1:]) == 4  # at the end there is room for fewer


def test_a_draft_that_is_the_model_itself_is_always_right() -> None:
    _, guesses, read = written(make("gpt2"), config_of("draft", 3), make("gpt2"))
    assert len(read) == NEW / 4
    assert guesses == [True, False] * len(read)


def test_nothing_is_left_behind_on_the_model() -> None:
    model = make("gpt2")
    before = dict(vars(model))
    written(model, config_of("lookup"))
    assert vars(model) == before


def test_guessing_goes_on_untimed_where_transformers_calls_it_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once another name for what guesses; once none for what makes it."""
    model = make("gpt2")
    plain, _, _ = written(model, config_of("off"))
    assert guessing.note(model) is None
    monkeypatch.setattr(guessing, "_GUESS", "another_name")
    assert "sampling" in (guessing.note(model) or "")
    text, guesses, _ = written(model, config_of("lookup"))
    assert (text, guesses) == (plain, [])
    monkeypatch.setattr(guessing, "MAKER", "_another_name")
    assert "sampling" in (guessing.note(model) or "")
    text, guesses, _ = written(model, config_of("lookup"))
    assert (text, guesses) == (plain, [])


def test_a_model_that_keeps_one_state_is_refused() -> None:
    mamba = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ConfigError, match="mamba") as refused:
        guessing.refuse_stateful(mamba, "speculate", "my-mamba")
    assert refused.value.knob == "speculate"
    guessing.refuse_stateful(make("gpt2"), "speculate", "gpt2")
