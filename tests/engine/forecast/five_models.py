"""Small models of the five kinds that the forecast has to be exact for, and a run of each on the virtual GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from engine.contract.config import RunConfig
from engine.contract.forecast_types import Forecast
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.training.hub import Hub
from engine.training.run import Run

TOLERANCE = 0.005
_LLAMA = {
    "vocab_size": 5000,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 192,
}
FIVE: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **_LLAMA, "num_attention_heads": 2, "intermediate_size": 512},
    "gpt2": {"model_type": "gpt2", "vocab_size": 5000, "n_embd": 128, "n_layer": 2, "n_head": 2, "n_positions": 192},
    "llama": {"model_type": "llama", **_LLAMA},
    "t5": {
        "model_type": "t5",
        "vocab_size": 5000,
        "d_model": 128,
        "d_kv": 64,
        "d_ff": 512,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "mixtral": {"model_type": "mixtral", **_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""By kind, the fields of config.json. Llama's heads share keys and values two by two."""
TASKS = {
    "bert": "classification",
    "gpt2": "causal-lm",
    "llama": "causal-lm",
    "t5": "seq2seq-lm",
    "mixtral": "causal-lm",
}


def small(folder: Path, kind: str, **changes: Any) -> RunConfig:
    """A run of one of `FIVE`, whose config.json is written into `folder`, on a virtual GPU."""
    (folder / kind).mkdir(exist_ok=True)
    (folder / kind / "config.json").write_text(json.dumps(FIVE[kind]))
    usual = {"task": TASKS[kind], "batch_size": 3, "seq_len": 64, "samples": 12, "device": "virtual:a100-40gb"}
    return RunConfig(model=str(folder / kind), **{**usual, **changes})


def measured_as_told(config: RunConfig) -> tuple[Forecast, RunRecord]:
    """The forecast of `config`, asserted to be what its run then measures, and the run."""
    torch.set_num_threads(1)
    hub = Hub()
    hub.probe()
    told = Forecaster(hub).forecast(config, find("a100-40gb"))
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=open_device(config), hub=hub, emit=lambda event: None, should_stop=lambda: False)
    measured = run.execute()
    assert measured.outcome is Outcome.COMPLETED, measured.message
    assert measured.peak_reserved is not None
    assert measured.peak_allocated is not None
    assert abs(told.peak_reserved - measured.peak_reserved) <= TOLERANCE * measured.peak_reserved
    assert abs(told.peak_allocated - measured.peak_allocated) <= TOLERANCE / 5 * measured.peak_allocated
    return told, measured


def assert_as_measured(config: RunConfig) -> RunRecord:
    """The forecast of `config` is what its run then measures; the run."""
    return measured_as_told(config)[1]
