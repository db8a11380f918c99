"""The forecast against real runs on the virtual GPU, over workloads and what shapes their memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from engine.contract.config import KNOBS, ConfigError, RunConfig, Value
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.training.hub import Hub
from engine.training.run import Run

TOLERANCE = 0.005
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
"""By task. Reserved memory is some hundred MiB: half a percent of it is less than one segment, so exact in effect."""
DATA = {"dummy": None, "reviews": "reviews.csv", "text": "text.txt"}
WORDS = [a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "li", "mo") for b in ("n", "rk", "st", "lla", "mp", "dder")]


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


@pytest.mark.slow
@pytest.mark.parametrize("changes", ALL, ids=lambda changes: "-".join(map(str, changes.values())))
def test_every_combination(tmp_path: Path, changes: dict[str, Value]) -> None:
    assert_as_measured(tmp_path, changes)


def assert_as_measured(folder: Path, changes: dict[str, Value], **more: Value) -> None:
    torch.set_num_threads(1)
    config = RunConfig(
        device="virtual:a100-40gb",
        model=str(folder / "model"),
        data=_write(folder, str(changes["workload"]), str(changes["task"])),
        **{"batch_size": 6, "seq_len": 128, "samples": 40, "eval_samples": 20, "epochs": 2, **changes, **more},  # type: ignore[arg-type]
    )
    told = Forecaster().forecast(config, find("a100-40gb"))
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=open_device(config), hub=_hub(), emit=lambda event: None, should_stop=lambda: False)
    measured = run.execute()
    assert measured.outcome is Outcome.COMPLETED, measured.message
    assert measured.peak_reserved is not None
    print("RESERVED", measured.peak_reserved / 2**20, told.peak_reserved / 2**20, measured.peak_allocated / 2**20, told.peak_allocated / 2**20, told.notes[1])
    assert abs(told.peak_reserved - measured.peak_reserved) <= TOLERANCE * measured.peak_reserved


def _hub() -> Hub:
    hub = Hub()
    hub.reachable = lambda: False  # type: ignore[method-assign]
    return hub


def _write(folder: Path, workload: str, task: str) -> str | None:
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(MODELS[task]))
    if workload == "dummy":
        return None
    rows = random.Random(3)
    texts = [" ".join(rows.choices(WORDS, k=min(150, round(rows.lognormvariate(3.2, 0.8)) + 3))) for _ in range(120)]
    file = folder / str(DATA[workload])
    if workload == "text":
        file.write_text("\n\n".join(texts * 2))
    else:
        file.write_text("\n".join(["text,label", *(f"{text},{i % 3}" for i, text in enumerate(texts))]))
    return str(file)
