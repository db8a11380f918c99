"""The forecast against real runs on the virtual GPU, over workloads and what shapes their memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import KNOBS, ConfigError, RunConfig, Value
from tests.engine.forecast.five_models import measured_as_told

SIZES = {"vocab_size": 5000, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 192}
MODELS = {
    "classification": {"model_type": "bert", "hidden_size": 128, "intermediate_size": 512, **SIZES},
    "causal-lm": {
        "model_type": "gpt2",
        "vocab_size": 5000,
        "n_embd": 128,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 192,
    },
    "seq2seq-lm": {
        "model_type": "t5",
        "vocab_size": 5000,
        "d_model": 128,
        "d_kv": 64,
        "d_ff": 512,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
}
MODELS |= dict.fromkeys(("masked-lm", "token-classification", "question-answering"), MODELS["classification"])
"""By task. Half a percent of what they reserve is less than one segment: the forecast has to be exact."""
WORDS = [
    a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "li", "mo") for b in ("n", "rk", "st", "lla", "mp", "dder")
]


def _configs(**choices: list[Value]) -> Iterator[dict[str, Value]]:
    """Every combination of the choices that the configuration does not refuse."""
    for values in product(*choices.values()):
        changes = dict(zip(choices, values, strict=True))
        try:
            RunConfig(**changes)  # type: ignore[arg-type]
        except ConfigError:
            continue
        yield changes


def _all_of(knob: str) -> list[Value]:
    return list(KNOBS[knob].choices)


ALL = list(
    _configs(
        workload=_all_of("workload"),
        task=_all_of("task"),
        padding=_all_of("padding"),
        gradient_checkpointing=["off", "on"],
        precision=["fp32", "bf16", "fp16"],
    )
)


def _some() -> list[dict[str, Value]]:
    """Of every workload and task one, so that all paddings, precisions and checkpointing take turns.

    Random tokens are never padded.
    """
    padded = [changes for changes in ALL if changes["workload"] != "dummy" or changes["padding"] == "longest"]
    groups = groupby(padded, key=lambda changes: (changes["workload"], changes["task"]))
    turns = [(list(group), turn) for turn, (_, group) in enumerate(groups)]
    return [group[turn * 5 % len(group)] for group, turn in turns]


REVIEWS: dict[str, Value] = {"workload": "reviews", "task": "classification", "padding": "longest"}
TEXT: dict[str, Value] = {"workload": "text", "task": "causal-lm", "padding": "packed"}
MORE: list[dict[str, Value]] = [
    {**REVIEWS, "gradient_accumulation_steps": 3},
    {**REVIEWS, "batch_size": 1, "samples": 12},
    {**REVIEWS, "samples": 6, "eval_samples": 24},  # what is scored is longer than what is trained on
    {**REVIEWS, "samples": 37, "attention": "eager"},  # the last batch has one sample
    {**REVIEWS, "padding": "bucketed", "optimizer_in_backward": True, "max_grad_norm": 0.0},
    {**REVIEWS, "padding": "bucketed", "lora_rank": 4},
    {**TEXT, "gradient_accumulation_steps": 4, "optimizer_implementation": "foreach"},
    {**TEXT, "attention": "eager", "epochs": 1},
    {**REVIEWS, "eval_steps": 3, "padding": "bucketed"},  # of 7 updates an epoch, one after the last
    {**TEXT, "eval_steps": 2, "gradient_accumulation_steps": 2},
    {**REVIEWS, "eval_steps": 1, "batch_size": 3, "samples": 30, "precision": "fp16"},
    {**TEXT, "eval_steps": 1},
    {**REVIEWS, "class_weights": "balanced", "weight_decay": 0.01, "precision": "bf16"},
    {**REVIEWS, "label_smoothing_factor": 0.1, "weight_decay": 0.01, "optimizer_implementation": "foreach"},
    {**REVIEWS, "class_weights": "balanced", "weight_decay": 0.1, "lora_rank": 4, "precision": "fp16"},
    {**TEXT, "weight_decay": 0.01, "optimizer": "sgd", "lr_scheduler": "cosine", "warmup_steps": 0.5},
    {**REVIEWS, "class_weights": "balanced", "gradient_checkpointing": "on", "eval_steps": 2},
    {**REVIEWS, "weight_decay": 0.01, "optimizer_in_backward": True, "max_grad_norm": 0.0},
    {**TEXT, "weight_decay": 0.01, "optimizer": "adafactor"},
    {**REVIEWS, "weight_decay": 0.01, "optimizer": "adamw", "optimizer_implementation": "loop"},
    {**TEXT, "task": "seq2seq-lm", "padding": "longest", "target_len": 24, "gradient_accumulation_steps": 2},
    {**TEXT, "workload": "instructions", "padding": "bucketed", "lora_rank": 4},
]


def _named(changes: dict[str, Value]) -> str:
    return "-".join(map(str, changes.values()))


@pytest.mark.parametrize("changes", _some(), ids=_named)
def test_every_workload_and_task(tmp_path: Path, changes: dict[str, Value]) -> None:
    assert_as_measured(tmp_path, changes)


@pytest.mark.parametrize(
    "changes",
    [pytest.param(each, marks=[pytest.mark.slow] if at % 4 != 2 else []) for at, each in enumerate(MORE)],
    ids=map(_named, MORE),
)
def test_what_else_shapes_the_memory_of_text(tmp_path: Path, changes: dict[str, Value]) -> None:
    assert_as_measured(tmp_path, changes)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [changes for changes in ALL if changes not in _some()], ids=_named)
def test_every_combination(tmp_path: Path, changes: dict[str, Value]) -> None:
    assert_as_measured(tmp_path, changes)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [REVIEWS, {**REVIEWS, "padding": "bucketed"}, TEXT], ids=_named)
def test_tensors_with_segments_of_their_own(tmp_path: Path, changes: dict[str, Value]) -> None:
    """From 10 MiB on. There lengths that change leave holes: the longest batch alone would take far less."""
    wide = {"hidden_size": 512, "intermediate_size": 2048, "n_embd": 512, "num_attention_heads": 8, "n_head": 8}
    assert_as_measured(tmp_path, changes, wide, batch_size=16, samples=96)


def assert_as_measured(
    folder: Path, changes: dict[str, Value], sizes: dict[str, int] | None = None, **more: Value
) -> None:
    torch.set_num_threads(1)
    values: dict[str, Any] = {"batch_size": 6, "seq_len": 128, "samples": 40, "eval_samples": 20, "epochs": 2}
    config = RunConfig(
        device="virtual:a100-40gb",
        **{
            **values,
            **changes,
            **more,
            **_written(folder, str(changes["workload"]), str(changes["task"]), sizes or {}),
        },
    )
    told, _ = measured_as_told(config)
    assert not any(note.startswith("Assumed of the data") for note in told.notes)


def _written(folder: Path, workload: str, task: str, sizes: dict[str, int]) -> dict[str, str | None]:
    """A model and data, as values of knobs. The data's vocabulary is far smaller than the model's."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({**MODELS[task], **sizes}))
    if workload == "dummy":
        return {"model": str(model)}
    rows = random.Random(3)
    lengths = [min(150, round(rows.lognormvariate(3.2, 0.8)) + 3) for _ in range(160)]
    texts = [" ".join(rows.choices(WORDS, k=length)) for length in lengths]
    if workload == "instructions":
        file = folder / "talks.jsonl"
        talks = ({"prompt": text, "completion": texts[i - 1]} for i, text in enumerate(texts))
        file.write_text("\n".join(map(json.dumps, talks)))
    elif task == "seq2seq-lm":
        file = folder / "pairs.tsv"
        file.write_text("\n".join(["source\ttarget", *(f"{text}\t{texts[i - 1]}" for i, text in enumerate(texts))]))
    elif workload == "text":
        file = folder / "text.txt"
        file.write_text("\n\n".join(texts * 3))
    else:
        file = folder / "reviews.csv"
        file.write_text("\n".join(["text,label", *(f"{text},{i % 3}" for i, text in enumerate(texts))]))
    return {"model": str(model), "data": str(file)}
