"""Folders whose config.json is broken, one field at a time: a refusal in one sentence, from a run and a forecast."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.devices.cpu import CpuDevice
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.training.hub import Hub
from engine.training.run import Run
from tests.engine.model_folders import FAMILIES, model_folder

TASKS = {"bert": "classification", "gpt2": "causal-lm", "llama": "causal-lm", "t5": "seq2seq-lm"}
HUGE = 10**30
# by family: a field, a value, and what the sentence says of them
BROKEN: list[tuple[str, str, Any, str]] = [
    ("bert", "num_attention_heads", 0, "num_attention_heads is 0 in its config.json, and has to be a whole number"),
    ("bert", "num_attention_heads", -1, "num_attention_heads is -1"),
    ("bert", "num_attention_heads", 3, r"hidden size \(64\) is not a multiple of the number of attention heads \(3\)"),
    ("bert", "num_attention_heads", "4", "num_attention_heads is '4'"),
    ("bert", "hidden_size", 0, "hidden_size is 0"),
    ("bert", "hidden_size", 64.0, r"hidden_size is 64\.0"),
    ("bert", "hidden_size", HUGE, "hidden_size is 1000"),
    ("bert", "hidden_size", 10**7, "GiB of memory: use a smaller model"),
    ("bert", "vocab_size", None, "vocab_size"),
    ("bert", "vocab_size", [1000], "vocab_size"),
    ("bert", "num_hidden_layers", 10**9, "num_hidden_layers is 1000000000 .* from 1 to 4,096"),
    ("bert", "num_hidden_layers", -1, "num_hidden_layers is -1"),
    ("bert", "intermediate_size", True, "intermediate_size is True"),
    ("bert", "max_position_embeddings", 0, "max_position_embeddings is 0"),
    ("bert", "type_vocab_size", 0, "could not be trained: "),
    ("bert", "pad_token_id", 1000, "pad_token_id is 1000 .* less than vocab_size, 1,000"),
    ("bert", "pad_token_id", "0", "pad_token_id is '0'"),
    ("bert", "hidden_act", "nonsense", "hidden_act in its config.json is 'nonsense', which transformers lacks"),
    ("bert", "hidden_act", 3, "hidden_act"),
    ("bert", "hidden_dropout_prob", 1.5, r"hidden_dropout_prob is 1\.5 .* from 0 to 1"),
    ("bert", "hidden_dropout_prob", float("nan"), "hidden_dropout_prob is nan"),
    ("bert", "layer_norm_eps", "small", "layer_norm_eps"),
    ("bert", "num_labels", 10**12, "num_labels is 1000000000000 .* from 1 to 100,000"),
    ("bert", "id2label", 3, "id2label is 3 in its config.json"),
    ("bert", "id2label", [], r"id2label is \[\] in its config.json, which an architecture of bert cannot use"),
    ("bert", "dtype", "x", "dtype is 'x' in its config.json, and has to be a kind of float"),
    ("bert", "dtype", 1.5, r"dtype is 1\.5"),
    (
        "bert",
        "chunk_size_feed_forward",
        None,
        "chunk_size_feed_forward is None .* which an architecture of bert cannot",
    ),
    ("bert", "output_hidden_states", 1.5, r"output_hidden_states is 1\.5"),
    ("bert", "max_position_embeddings", -1, "max_position_embeddings is -1"),
    ("bert", "type_vocab_size", HUGE, "type_vocab_size is 1000"),
    ("bert", "add_cross_attention", [], r"add_cross_attention is \[\] in its config.json, and has to be true or false"),
    ("bert", "eos_token_id", {}, "eos_token_id is {} .* has to be a whole number or"),
    ("bert", "model_type", "no-such", "config.json cannot be used"),
    ("bert", "model_type", ["bert"], r"model_type is \['bert'\] in its config.json, and has to be the name of an arch"),
    ("bert", "model_type", {}, "model_type is {}"),
    ("bert", "layer_norm_eps", float("inf"), "layer_norm_eps is inf in its config.json, and has to be a finite number"),
    (
        "llama",
        "initializer_range",
        1.5,
        r"initializer_range is 1\.5 in its config.json, and has to be greater or equal",
    ),
    ("bert", "model_type", [], r"model_type is \[\]"),
    ("bert", "model_type", None, "model_type is None"),
    ("gpt2", "n_head", 0, "n_head is 0"),
    ("gpt2", "n_head", 3, "must be divisible by num_heads"),
    ("gpt2", "n_embd", "64", "n_embd is '64'"),
    ("gpt2", "n_layer", 10**6, "n_layer is 1000000"),
    ("gpt2", "n_positions", 0, "n_positions is 0"),
    ("gpt2", "n_inner", -5, "n_inner is -5"),
    ("gpt2", "vocab_size", 2**31, "vocab_size is 2147483648"),
    ("gpt2", "vocab_size", 10**9, "GiB of memory: use a smaller model"),
    ("gpt2", "pad_token_id", HUGE, "pad_token_id is 1000"),
    ("gpt2", "activation_function", "gelu_newer", "activation_function in its config.json is 'gelu_newer'"),
    ("gpt2", "attn_pdrop", -1, "attn_pdrop is -1"),
    ("llama", "num_attention_heads", 0, "num_attention_heads is 0"),
    ("llama", "num_attention_heads", 2**31, "num_attention_heads is 2147483648"),
    ("llama", "num_key_value_heads", 0, "num_key_value_heads is 0"),
    ("llama", "num_key_value_heads", 3, "num_key_value_heads is 3 .* a divisor of num_attention_heads, 4"),
    ("llama", "num_key_value_heads", 10**6, "num_key_value_heads is 1000000"),
    ("llama", "head_dim", 3, "could not be trained: "),
    ("llama", "hidden_size", 0, "hidden_size is 0"),
    ("llama", "rope_theta", "high", "rope_parameters is .*'high'.* an architecture of llama cannot use"),
    ("llama", "rope_parameters", "yarn", "rope_parameters|config.json cannot be used"),
    ("llama", "hidden_act", "swish-swosh", "hidden_act in its config.json is 'swish-swosh'"),
    ("llama", "attention_dropout", None, "attention_dropout|dropout_p"),
    ("t5", "d_model", 0, "d_model is 0"),
    ("t5", "d_kv", -1, "d_kv is -1"),
    ("t5", "d_ff", [], "d_ff|could not be built"),
    ("t5", "num_layers", 0, "num_layers is 0"),
    ("t5", "num_decoder_layers", 10**5, "num_decoder_layers is 100000"),
    ("t5", "decoder_start_token_id", 1000, "decoder_start_token_id is 1000"),
    ("t5", "feed_forward_proj", "nonsense", "in its config.json is 'nonsense'"),
    (
        "t5",
        "relative_attention_num_buckets",
        0,
        "relative_attention_num_buckets is 0 .* an architecture of t5 cannot use",
    ),
    ("t5", "relative_attention_max_distance", -1, "could not be trained: "),
    ("t5", "dropout_rate", 2, "dropout_rate is 2"),
]

SEEN_BY_RUNS_ALONE = {("bert", "type_vocab_size"), ("llama", "head_dim"), ("llama", "attention_dropout")}
"""A forecast has no values to compute with, and is of a machine that need not be here."""


@pytest.fixture(scope="module")
def hub() -> Hub:
    hub = Hub()
    hub.probe()
    return hub


@pytest.fixture(scope="module")
def forecaster(hub: Hub) -> Forecaster:
    return Forecaster(hub)


def refused_run(config: RunConfig, hub: Hub) -> str:
    """The sentence with which a run of `config` is refused."""
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=CpuDevice(), hub=hub, emit=lambda event: None, should_stop=lambda: False)
    with pytest.raises(ConfigError) as refused:
        run.execute()
    assert refused.value.knob == "model"
    return one_sentence(refused.value)


def one_sentence(error: ConfigError) -> str:
    assert "\n" not in error.message
    assert len(error.message) < 600
    return error.message


@pytest.mark.parametrize(
    ("family", "field", "value", "words"),
    [pytest.param(*case, marks=[pytest.mark.slow] if at % 3 else []) for at, case in enumerate(BROKEN)],
    ids=[f"{f}-{k}-{str(v)[:12]}" for f, k, v, _ in BROKEN],
)
def test_a_broken_field_is_refused_by_its_name(
    family: str, field: str, value: Any, words: str, tmp_path: Path, hub: Hub, forecaster: Forecaster
) -> None:
    folder = Path(model_folder(tmp_path, family))
    (folder / "config.json").write_text(json.dumps({**FAMILIES[family], field: value}))
    config = RunConfig(model=str(folder), task=TASKS[family], device="cpu", samples=4, batch_size=2, seq_len=16)
    said = refused_run(config, hub)
    assert said.startswith(f"--model {str(folder)!r}")
    assert re.search(words, said), said
    if (family, field) not in SEEN_BY_RUNS_ALONE and "GiB of memory" not in words:
        with pytest.raises(ConfigError) as told:
            forecaster.forecast(config, find("tesla-p4"))
        assert told.value.message == said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"{", "it is not JSON"),
        (b"[1, 2]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b'{"model_type": "b\xe9rt"}', r"is not UTF-8 \(byte 17\)"),
        (b'{"model_type": "bert", "x": ' + b"[" * 50 + b"]" * 50 + b"}", "nested too deep"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b'{"model_type": "bert", "vocab_size": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"\0" * 100, "is not JSON"),
        (b"{}", "cannot be used"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    content: bytes, words: str, tmp_path: Path, hub: Hub, forecaster: Forecaster
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    config = RunConfig(model=str(tmp_path), device="cpu")
    said = refused_run(config, hub)
    assert said.startswith(f"--model {str(tmp_path)!r}: its config.json")
    assert re.search(words, said), said
    with pytest.raises(ConfigError) as told:
        forecaster.forecast(config, find("tesla-p4"))
    assert told.value.message == said


def test_a_configuration_of_200_mib_is_not_read(tmp_path: Path, hub: Hub) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(200 * 2**20)
    assert "its config.json has 200 MiB" in refused_run(RunConfig(model=str(tmp_path), device="cpu"), hub)


def test_a_configuration_that_never_ends_is_not_read(tmp_path: Path, hub: Hub) -> None:
    os.mkfifo(tmp_path / "config.json")
    said = refused_run(RunConfig(model=str(tmp_path), device="cpu"), hub)
    assert "its config.json is not a regular file" in said


def test_a_padding_of_minus_one_is_none(tmp_path: Path, hub: Hub) -> None:
    """So the first Llamas were published."""
    folder = Path(model_folder(tmp_path, "llama"))
    (folder / "config.json").write_text(json.dumps({**FAMILIES["llama"], "pad_token_id": -1}))
    config = RunConfig(model=str(folder), device="cpu", samples=4, batch_size=2, seq_len=16)
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=CpuDevice(), hub=hub, emit=lambda event: None, should_stop=lambda: False)
    assert run.execute().outcome is Outcome.COMPLETED
