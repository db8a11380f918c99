"""What a run leaves in its output folder: transformers and peft load it, and it says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from engine.contract.config import ConfigError, Value
from tests.engine.training.saving.whole_runs import Whole, do, small

TEXTS = ["the food was great", "awful service, and the soup was cold"]


def logits_of(model: Any, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(**tokens).logits
        return logits


def tokens_in(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt"))


def last_of(folder: Path) -> Path:
    """Where the weights of the last update are."""
    return folder / "last" if (folder / "last").exists() else folder


def test_a_classifier_says_the_same_in_a_pipeline(tmp_path: Path) -> None:
    whole = do(small(tmp_path, save_steps=0))
    folder = last_of(tmp_path / "out")
    tokens = tokens_in(folder)
    ours = logits_of(whole.trained.model, tokens)
    assert torch.equal(logits_of(AutoModelForSequenceClassification.from_pretrained(folder), tokens), ours)
    answers = pipeline("text-classification", model=str(folder))(TEXTS, top_k=None)
    for row, answer in zip(ours.softmax(-1).tolist(), answers, strict=True):
        said = {each["label"]: each["score"] for each in answer}
        assert said == pytest.approx(dict(zip(("negative", "positive"), row, strict=True)), rel=1e-5)


def test_the_folder_has_the_best_and_the_last_model(tmp_path: Path) -> None:
    # at so small a rate every evaluation is as accurate as the first, so that none is better
    knobs: dict[str, Value] = {"save_steps": 0, "learning_rate": 1e-7, "metric_for_best_model": "accuracy"}
    whole = do(small(tmp_path, **knobs, eval_steps=3))
    folder = tmp_path / "out"
    assert [json.loads((each / "traintop.json").read_text())["update"] for each in (folder, folder / "last")] == [3, 12]
    tokens = tokens_in(folder)
    last = AutoModelForSequenceClassification.from_pretrained(folder / "last")
    assert torch.equal(logits_of(last, tokens), logits_of(whole.trained.model, tokens))
    until_then = do(small(tmp_path, **knobs, output_dir="none"), stop_after=3)
    best = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(logits_of(best, tokens), logits_of(until_then.trained.model, tokens))


def assert_peft_agrees(whole: Whole, folder: Path, base: str) -> None:
    from peft import PeftModel

    head = AutoModelForSequenceClassification.from_pretrained(base)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    tokens = tokens_in(folder)
    ours = logits_of(whole.trained.model, tokens)
    assert torch.equal(logits_of(PeftModel.from_pretrained(head, str(folder)), tokens), ours)
    answers = pipeline("text-classification", model=str(folder))(TEXTS, top_k=None)
    for row, answer in zip(ours.softmax(-1).tolist(), answers, strict=True):
        said = {each["label"]: each["score"] for each in answer}
        assert said == pytest.approx(dict(zip(("negative", "positive"), row, strict=True)), rel=1e-5)


def test_an_adapter_brings_a_base_that_is_nowhere_else(tmp_path: Path) -> None:
    whole = do(small(tmp_path, save_steps=0, lora_rank=4))
    folder = last_of(tmp_path / "out")
    assert (folder / "adapter_model.safetensors").stat().st_size < (folder / "base/model.safetensors").stat().st_size
    assert_peft_agrees(whole, folder, str(folder / "base"))


@pytest.mark.parametrize(("family", "weights"), [("bert", "nf4"), ("gpt2", "nf4"), ("bert", "int8")])
def test_a_quantised_base_is_kept_as_what_it_stands_for(tmp_path: Path, family: str, weights: str) -> None:
    """peft puts the adapter on it, and it computes what was trained: exactly in 4 bits, whose products are those."""
    from peft import PeftModel

    whole = do(small(tmp_path, family, save_steps=0, lora_rank=4, weights=weights))
    folder = last_of(tmp_path / "out")
    base = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    tokens = tokens_in(folder)
    ours, theirs = (logits_of(each, tokens) for each in (whole.trained.model, PeftModel.from_pretrained(base, folder)))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-5 if weights == "nf4" else 2e-2)


def test_an_adapter_on_weights_that_are_there_takes_them_from_there(tmp_path: Path) -> None:
    do(small(tmp_path, save_steps=0, output_dir=str(tmp_path / "first")))
    first = tmp_path / "first"
    whole = do(small(tmp_path, save_steps=0, lora_rank=4, model=str(first)), 2)
    folder = last_of(tmp_path / "out")
    assert_peft_agrees(whole, folder, str(folder / "base"))
    card = (folder / "README.md").read_text()
    assert f"Weights of {first.name}" in card
    assert (folder / "base/model.safetensors").samefile(first / "model.safetensors")


def test_a_language_model_goes_on_writing_with_its_own_words(tmp_path: Path) -> None:
    whole = do(
        small(
            tmp_path, "gpt2", workload="text", task="causal-lm", padding="packed", samples=16, save_steps=0, seq_len=32
        )
    )
    folder = last_of(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = dict(tokenizer("the food was", return_tensors="pt"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.use_cache
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert torch.equal(logits_of(model, tokens), logits_of(whole.trained.model, tokens))
    written = pipeline("text-generation", model=str(folder))("the food was", max_new_tokens=4, do_sample=False)
    assert written[0]["generated_text"].startswith("the food was")


def test_a_language_models_adapter_names_its_base(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    lm = {"workload": "text", "task": "causal-lm", "padding": "packed", "samples": 16, "save_steps": 0, "seq_len": 32}
    do(small(tmp_path, "gpt2", **lm, output_dir=str(tmp_path / "first")))
    first = str(tmp_path / "first")
    whole = do(small(tmp_path, "gpt2", **lm, lora_rank=4, model=first), 2)
    folder = last_of(tmp_path / "out")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == first
    assert not (folder / "base").exists()
    tokens = dict(AutoTokenizer.from_pretrained(folder)("the food was", return_tensors="pt"))
    ours = logits_of(whole.trained.model, tokens)
    assert torch.equal(logits_of(AutoModelForCausalLM.from_pretrained(folder), tokens), ours)
    adapted = AutoPeftModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits_of(adapted, tokens), ours)


def test_the_card_says_what_was_done(tmp_path: Path) -> None:
    whole = do(small(tmp_path, save_steps=0))
    card = (last_of(tmp_path / "out") / "README.md").read_text()
    assert card.startswith("---\n")
    assert 'pipeline_tag: "text-classification"' in card
    for said in ("# bert, trained on reviews.csv", "run 1 of traintop", "| batch_size | 2 |", "- 1: positive", "torch"):
        assert said in card
    assert f"| held-out accuracy | {whole.record.eval_accuracy:,.4g} |" in card
    assert str(tmp_path) not in card.replace(str(tmp_path / "bert"), "").replace(str(tmp_path / "reviews.csv"), "")


def test_a_folder_with_another_model_is_left_alone(tmp_path: Path) -> None:
    do(small(tmp_path, save_steps=0))
    before = (tmp_path / "out/model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="holds the model of run 1 already: give another folder"):
        do(small(tmp_path, save_steps=0, seed=1), 2)
    assert (tmp_path / "out/model.safetensors").read_bytes() == before
    do(small(tmp_path, save_steps=0, seed=1, output_dir=str(tmp_path / "run-{run}")), 2)
    assert (tmp_path / "run-2/model.safetensors").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output-dir .*file/out cannot be written \(Not a directory\)"):
        do(small(tmp_path, output_dir=str(tmp_path / "file/out")))


def test_a_model_on_a_virtual_card_costs_it_nothing(tmp_path: Path) -> None:
    knobs = {"device": "virtual:tesla-p4", "eval_steps": 2}
    plain = do(small(tmp_path, output_dir="none", save_steps=0, **knobs))
    kept = do(small(tmp_path, **knobs))
    assert kept.saved
    assert not [event.problem for event in kept.saved if event.problem]
    assert kept.record.peak_reserved == plain.record.peak_reserved
    assert kept.record.peak_allocated == plain.record.peak_allocated
