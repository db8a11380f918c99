"""Nothing is ever unpickled, no code of a model is run, and no weights are read from outside a model's own folder."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification

from engine.contract.config import ConfigError, RunConfig
from engine.training import models
from engine.training.hub import Hub


@pytest.fixture
def hub() -> Hub:
    hub = Hub()
    hub.probe()
    return hub


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model in two shards, and beside it a folder with weights of someone else's."""
    folder = tmp_path / "model"
    settings = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertForSequenceClassification(settings).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / shard, metadata={"format": "pt"})
    write_index(folder, {name: shard for shard, held in shards.items() for name in held})
    other = tmp_path / "other"
    other.mkdir()
    save_file(weights, other / "x.safetensors", metadata={"format": "pt"})
    return folder


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    )


def load(name: str, hub: Hub) -> torch.nn.Module:
    config = RunConfig(model=name, seq_len=16)
    source = models.resolve(name, hub)
    return models.build(source, models.shape(source, config, n_labels=2, vocab_size=None), config)


def test_shards_are_read(folder: Path, hub: Hub) -> None:
    model = load(str(folder), hub)
    saved = load_file(folder / "a.safetensors") | load_file(folder / "b.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved[name])


@pytest.mark.parametrize(
    "shard",
    ["weights.bin", "../other/x.safetensors", "sub/x.safetensors", "..", ".safetensors", "a.safetensors\\..\\b", "", 3],
)
def test_an_index_may_name_safetensors_of_its_folder_alone(shard: Any, folder: Path, hub: Hub) -> None:
    trace = folder / "ran"
    with (folder / "weights.bin").open("wb") as file:
        pickle.dump({"classifier.weight": Bomb(trace)}, file)
    (folder / "sub").mkdir()
    save_file(load_file(folder / "a.safetensors"), folder / "sub" / "x.safetensors")
    write_index(folder, {"classifier.weight": shard, "classifier.bias": "a.safetensors"})
    with pytest.raises(ConfigError, match="no safetensors file of its folder") as refused:
        load(str(folder), hub)
    assert refused.value.knob == "model"
    assert "\n" not in refused.value.message
    assert not trace.exists()


def test_an_absolute_path_in_an_index_is_refused(folder: Path, hub: Hub) -> None:
    write_index(folder, {"classifier.weight": str(folder.parent / "other" / "x.safetensors")})
    with pytest.raises(ConfigError, match="no safetensors file of its folder"):
        load(str(folder), hub)


@pytest.mark.parametrize("weight_map", [None, [], {}, "a.safetensors"])
def test_an_index_that_names_nothing_is_refused(weight_map: Any, folder: Path, hub: Hub) -> None:
    write_index(folder, weight_map)
    with pytest.raises(ConfigError, match="names no files"):
        load(str(folder), hub)


def test_a_shard_that_is_not_there_is_refused(folder: Path, hub: Hub) -> None:
    (folder / "b.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"'b\.safetensors' are not there"):
        load(str(folder), hub)


@pytest.mark.parametrize("file", ["a.safetensors", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused(file: str, folder: Path, hub: Hub) -> None:
    (folder / file).unlink(missing_ok=True)
    (folder / file).symlink_to(folder.parent / "other" / "x.safetensors")
    with pytest.raises(ConfigError, match="a link out of its folder"):
        load(str(folder), hub)


def test_a_link_within_the_folder_is_followed(folder: Path, hub: Hub) -> None:
    (folder / "a.safetensors").rename(folder / "first.safetensors")
    (folder / "a.safetensors").symlink_to("first.safetensors")
    load(str(folder), hub)


def cached(folder: Path, cache: Path, name: str) -> Path:
    """Put a folder into a hub cache as `huggingface_hub` keeps it: links to blobs."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    for made in (snapshot, blobs, repository / "refs"):
        made.mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    for number, file in enumerate(sorted(path for path in folder.iterdir() if path.is_file())):
        file.rename(blobs / f"{number:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:064x}")
    return snapshot


def test_the_hubs_cache_is_read_through_its_links(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent / "cache"))
    snapshot = cached(folder, folder.parent / "cache", "someone/model")
    by_name, by_folder = load("someone/model", hub), load(str(snapshot), hub)
    for mine, other in zip(by_name.parameters(), by_folder.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("shard", ["weights.bin", "../../../other/x.safetensors"])
def test_an_index_in_the_hubs_cache_is_held_to_the_same(
    shard: str, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent / "cache"))
    with (folder / "weights.bin").open("wb") as file:
        pickle.dump({"classifier.weight": Bomb(folder.parent / "ran")}, file)
    write_index(folder, {"classifier.weight": shard})
    cached(folder, folder.parent / "cache", "someone/model")
    with pytest.raises(ConfigError, match="no safetensors file of its folder"):
        load("someone/model", hub)
    assert not (folder.parent / "ran").exists()


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x/y"}))
    with (folder / "adapter_model.bin").open("wb") as file:
        pickle.dump({"x": Bomb(folder / "ran")}, file)


def _of_ranks(folder: Path) -> None:
    (folder / "a.safetensors").rename(folder / "shard-00000-model-00001-of-00001.safetensors")


@pytest.mark.parametrize(("spoil", "words"), [(_adapter, "an adapter"), (_of_ranks, "a distributed checkpoint")])
def test_what_transformers_would_load_instead_is_refused(
    spoil: Callable[[Path], None], words: str, folder: Path, hub: Hub
) -> None:
    spoil(folder)
    with pytest.raises(ConfigError, match=words):
        load(str(folder), hub)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("named", ["adapter_model.bin", "../other/x.safetensors", "b.safetensors"])
def test_a_config_does_not_choose_the_weights(named: str, folder: Path, hub: Hub) -> None:
    with (folder / "adapter_model.bin").open("wb") as file:
        pickle.dump({"classifier.weight": Bomb(folder / "ran")}, file)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "transformers_weights": named}))
    model = load(str(folder), hub)
    assert not (folder / "ran").exists()
    saved = load_file(folder / "a.safetensors") | load_file(folder / "b.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved[name])


def test_a_tokenizers_code_is_not_run(folder: Path, hub: Hub) -> None:
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(folder / 'ran')!r})\nclass Evil: pass\n")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}})
    )
    models.resolve(str(folder), hub)
    assert not (folder / "ran").exists()
