"""Architectures by name: their published sizes, their names, and that each has a forecast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from engine.contract.config import ConfigError, RunConfig
from engine.contract.presets import PRESETS
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.models.architecture import BASE, CAUSAL, CLASSES, MASKED, PRETRAINING, SEQ2SEQ
from engine.models.catalogue import ARCHITECTURES, FAMILIES, close_to, known, matching, smaller
from engine.training import models
from engine.training.hub import Hub

_HEADS = {
    BASE: AutoModel,
    PRETRAINING: AutoModelForPreTraining,
    MASKED: AutoModelForMaskedLM,
    CAUSAL: AutoModelForCausalLM,
    SEQ2SEQ: AutoModelForSeq2SeqLM,
    CLASSES: AutoModelForSequenceClassification,
}
_PUBLISHED = [name for name, each in ARCHITECTURES.items() if each.n_parameters is not None]
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)


@pytest.mark.parametrize("name", _PUBLISHED)
def test_the_published_number_of_parameters(name: str) -> None:
    """The class that the hub's checkpoint is of, exactly."""
    each = ARCHITECTURES[name]
    with torch.device("meta"):
        model = _HEADS[each.head].from_config(AutoConfig.for_model(each.model_type, **each.settings))
    n = sum(parameter.numel() for parameter in model.parameters())
    if each.own_output:
        n += model.get_output_embeddings().weight.numel()
    assert n == each.n_parameters


def test_the_list_is_long_and_has_every_family() -> None:
    assert len(_PUBLISHED) >= 45
    types = {each.model_type for each in ARCHITECTURES.values()}
    assert types >= {"bert", "roberta", "xlm-roberta", "distilbert", "albert", "electra", "mpnet", "modernbert"}
    assert types >= {"deberta-v2", "gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "falcon", "llama", "mistral"}
    assert types >= {"mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"}
    assert types >= {"phi", "phi3", "t5", "mt5", "bart"}
    assert sum(map(len, FAMILIES.values())) == len(ARCHITECTURES)
    assert set(PRESETS) <= set(ARCHITECTURES)
    assert all(name == name.lower() for name in ARCHITECTURES)


def test_a_model_is_known_by_its_own_name_and_by_the_hubs() -> None:
    llama = ARCHITECTURES["llama-3.1-8b"]
    for name in ("llama-3.1-8b", "Llama-3.1-8B", "meta-llama/Llama-3.1-8B", "meta-llama/llama-3.1-8b-instruct"):
        assert known(name) is llama
    assert known("meta-llama/Llama-9-8B") is None


def test_what_somebody_may_have_meant() -> None:
    assert close_to("lama-3.1-8b")[0] == "llama-3.1-8b"
    assert "qwen2.5-7b" in close_to("qwen-2.5-7b")
    assert close_to("robertabase")[0] == "roberta-base"
    assert close_to("xxxxxxxx") == []


def test_names_are_found_by_words() -> None:
    assert matching("") == list(ARCHITECTURES)
    assert matching("mistral moe-tiny") == ["moe-tiny"]
    assert matching("meta-llama 3.2") == ["llama-3.2-1b", "llama-3.2-3b"]
    assert matching("no-such-word") == []


def test_smaller_ones_of_a_kind_come_in_order() -> None:
    assert smaller("llama-3.1-8b") == ["llama-3.2-3b", "llama-3.2-1b"]
    assert smaller("bert-large-uncased")[0] == "bert-base-uncased"
    assert smaller("qwen2.5-7b")[0] == "qwen2.5-3b"
    assert smaller("llama-3.2-1b") == smaller("my/own") == []


def test_the_list_is_light() -> None:
    code = "import sys, engine.models.catalogue; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_misspelt_name_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean llama-3\.1-8b or ") as refused:
        models.resolve("lama-3.1-8b", Hub())
    assert "\n" not in refused.value.message


def test_a_gated_model_without_weights_says_how_to_get_them() -> None:
    hub = Hub()
    hub.probe()
    note = models.resolve("llama-3.2-1b", hub).note
    assert "fresh initialisation" in note
    assert "accepted its licence" in note
    assert "licence" not in models.resolve("smollm2-135m", hub).note


def test_random_weights_of_a_huge_model_are_never_made() -> None:
    hub = Hub()
    hub.probe()
    config = RunConfig(model="llama-3.1-70b", task="causal-lm")
    source = models.resolve(config.model, hub)
    with pytest.raises(ConfigError, match=r"70,553,706,496 parameters.* GiB of memory"):
        models.build(source, models.shape(source, config, n_labels=2, vocab_size=None), config)


def test_the_forecast_of_a_hub_name_needs_no_network() -> None:
    config = RunConfig(task="causal-lm", batch_size=2, seq_len=32, samples=4)
    forecaster, card = Forecaster(), find("h200")
    by_hub = forecaster.forecast(config.with_values(model="HuggingFaceTB/SmolLM2-135M-Instruct"), card)
    assert by_hub.n_parameters == ARCHITECTURES["smollm2-135m"].n_parameters


def test_flan_t5_has_an_output_layer_of_its_own() -> None:
    config = RunConfig(model="flan-t5-small", task="seq2seq-lm", batch_size=2, seq_len=32, samples=4)
    assert Forecaster().forecast(config, find("h200")).n_parameters == ARCHITECTURES["flan-t5-small"].n_parameters


def _config(name: str, **changes: object) -> RunConfig:
    head = ARCHITECTURES[name].head
    task = head if head in (CAUSAL, SEQ2SEQ) else "classification"
    return RunConfig(model=name, task=task, batch_size=2, seq_len=32, samples=4).with_values(**changes)  # type: ignore[arg-type]


_SMALLEST = {each.model_type: name for name, each in reversed(ARCHITECTURES.items())}
_EAGER = {"bloom", "gpt_neo", "gptj", "deberta-v2", "mpnet", "gemma2"}


@pytest.mark.parametrize("name", _SMALLEST.values(), ids=_SMALLEST)
def test_every_architecture_has_a_forecast_with_two_layers(name: str, tmp_path: Path) -> None:
    each = ARCHITECTURES[name]
    fields = AutoConfig.for_model(each.model_type, **each.settings).to_dict()
    few: dict[str, object] = {field: 2 for field in _LAYERS if field in fields}
    if each.model_type == "gpt_neo":
        few["attention_types"] = [[["global", "local"], 1]]
    if each.model_type == "gemma3_text":
        few["layer_types"] = ["sliding_attention", "full_attention"]
    AutoConfig.for_model(each.model_type, **{**each.settings, **few}).save_pretrained(tmp_path)
    config = _config(name, model=str(tmp_path))
    made = Forecaster().forecast(config, find("h200"))
    assert made.n_parameters < (each.n_parameters or 1e10)
    taken = "eager" if each.model_type in _EAGER else "sdpa"
    assert any(note.startswith(f"Attention: {taken}") for note in made.notes)
    if each.model_type in _EAGER:
        with pytest.raises(ConfigError, match=r"--attention sdpa does not exist .*use --attention eager"):
            Forecaster().forecast(config.with_values(attention="sdpa"), find("h200"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_a_forecast_at_its_size(name: str) -> None:
    made = Forecaster().forecast(_config(name), find("h200"))
    assert made.peak_allocated > 4 * made.n_parameters
