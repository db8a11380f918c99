"""From a name to a model: presets, folders, weights, and names that stand for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config

from engine.contract.config import ConfigError, RunConfig
from engine.contract.presets import PRESETS
from engine.training import models
from engine.training.hub import Hub


@pytest.fixture
def hub() -> Hub:
    hub = Hub()
    hub.probe()
    return hub


def _build(config: RunConfig, hub: Hub, n_labels: int = 3) -> torch.nn.Module:
    source = models.resolve(config.model, hub)
    return models.build(source, models.shape(source, config, n_labels=n_labels, vocab_size=None), config)


# parameters of the published checkpoints' encoders and poolers (Turc et al. 2019; Devlin et al. 2018; Sanh et al. 2019)
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("bert-tiny", 4.4),
        ("bert-mini", 11.2),
        ("bert-small", 28.8),
        ("distilbert-base-uncased", 67.0),
        ("bert-base-uncased", 109.5),
        ("bert-large-uncased", 335.1),
    ],
)
def test_presets_have_the_published_sizes(name: str, millions: float, hub: Hub) -> None:
    with torch.device("meta"):
        model = _build(RunConfig(model=name), hub)
    n = sum(parameter.numel() for parameter in model.parameters())
    assert n / 1e6 == pytest.approx(millions, rel=0.01)
    assert name in PRESETS


def test_preset_without_the_hub_is_initialised_and_says_so(hub: Hub) -> None:
    source = models.resolve("bert-tiny", hub)
    assert source.location is None
    assert "fresh initialisation" in source.note
    assert "HF_HUB_OFFLINE" in source.note


def test_weights_in_a_folder_are_read(tmp_path: Path, hub: Hub) -> None:
    saved = BertForSequenceClassification(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2))
    saved.save_pretrained(tmp_path)
    loaded = _build(RunConfig(model=str(tmp_path)), hub, n_labels=5)
    assert torch.equal(saved.bert.embeddings.word_embeddings.weight, loaded.bert.embeddings.word_embeddings.weight)
    assert loaded.classifier.out_features == 5


def test_folder_with_config_only_is_initialised(tmp_path: Path, hub: Hub) -> None:
    GPT2Config(n_embd=32, n_layer=1, n_head=2).save_pretrained(tmp_path)
    source = models.resolve(str(tmp_path), hub)
    assert "no weights: fresh initialisation" in source.note
    model = _build(RunConfig(model=str(tmp_path), task="causal-lm"), hub)
    assert model.config.use_cache is False


def test_pickled_weights_are_never_read(tmp_path: Path, hub: Hub) -> None:
    BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    source = models.resolve(str(tmp_path), hub)
    assert source.location is None
    assert "pickle" in source.note


def test_dropout_off_reaches_every_layer(hub: Hub) -> None:
    for name in ("bert-tiny", "distilbert-base-uncased"):
        with torch.device("meta"):
            model = _build(RunConfig(model=name, dropout=False), hub)
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


@pytest.mark.parametrize("name", ["no-such/model", "nonsense", "./nowhere", "a/b/c", "../x"])
def test_unknown_names_are_refused_in_one_sentence(name: str, hub: Hub) -> None:
    with pytest.raises(ConfigError) as refused:
        models.resolve(name, hub)
    assert refused.value.knob == "model"
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no-such"}', "{}"])
def test_broken_config_is_refused(text: str, tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        models.resolve(str(tmp_path), hub)


def test_damaged_weights_are_refused(tmp_path: Path, hub: Hub) -> None:
    BertForSequenceClassification(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"could not be read: .+\. Get its files again, or use another model\."):
        _build(RunConfig(model=str(tmp_path)), hub)


def test_damaged_weights_in_the_hubs_cache_are_refused(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--google--bert_uncased_L-2_H-128_A-2"
    snapshot = repository / "snapshots" / ("0" * 40)
    BertForSequenceClassification(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (snapshot / "model.safetensors").write_bytes(b"half of it")
    with pytest.raises(ConfigError, match=r"could not be read: .+\. Get its files again"):
        _build(RunConfig(model="bert-tiny"), hub)


def test_remote_code_is_never_run(tmp_path: Path, hub: Hub) -> None:
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(ConfigError):
        models.resolve(str(tmp_path), hub)
    assert not (tmp_path / "ran").exists()


def test_sequences_longer_than_the_positions_are_refused(hub: Hub) -> None:
    source = models.resolve("bert-tiny", hub)
    models.check_length(source, RunConfig(seq_len=512))
    with pytest.raises(ConfigError, match="use --seq-len 512 or less"):
        models.check_length(source, RunConfig(seq_len=513))


def test_a_head_that_does_not_exist_is_refused(hub: Hub) -> None:
    with pytest.raises(ConfigError, match="--task seq2seq-lm does not exist for bert-tiny"):
        _build(RunConfig(task="seq2seq-lm"), hub)


def test_meta_model_reads_no_weights(tmp_path: Path, hub: Hub) -> None:
    BertForSequenceClassification(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    with torch.device("meta"):
        model = _build(RunConfig(model=str(tmp_path)), hub)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
