"""Weights in 16 bits and LoRA: the forecast against runs on the virtual GPU, over the kinds of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.config import Value
from tests.engine.forecast.five_models import FIVE, assert_as_measured, small

WAYS: dict[str, dict[str, Value]] = {
    "bf16": {"weights": "bf16"},
    "bf16, autocast": {"weights": "bf16", "precision": "bf16", "gradient_checkpointing": "on"},
    "fp16": {"weights": "fp16", "gradient_accumulation_steps": 2},
    "bf16, foreach": {"weights": "bf16", "optimizer_implementation": "foreach"},
    "bf16, in backward": {"weights": "bf16", "optimizer_in_backward": True, "max_grad_norm": 0.0},
    "LoRA": {"lora_rank": 4, "lora_dropout": 0.1},
    "bf16, LoRA": {"weights": "bf16", "lora_rank": 4, "lora_alpha": 4},
    "bf16, LoRA on all": {"weights": "bf16", "lora_rank": 4, "lora_targets": "all-linear", "precision": "bf16"},
    "fp16, LoRA, scaled": {"weights": "fp16", "lora_rank": 4, "precision": "fp16"},
}


QUICK = ("bf16", "bf16, autocast", "bf16, LoRA")


@pytest.mark.parametrize("kind", FIVE)
@pytest.mark.parametrize("way", [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in WAYS])
def test_the_forecast_is_what_a_run_measures(tmp_path: Path, kind: str, way: str) -> None:
    changes = WAYS[way]
    if kind == "mixtral" and changes.get("lora_targets") == "all-linear":
        pytest.skip("peft computes experts' weights anew in every forward: not to be forecast, and said")
    assert_as_measured(small(tmp_path, kind, **changes))


def test_experts_of_16_bits_get_their_gradients_in_the_order_of_autograd(tmp_path: Path) -> None:
    """That of the weights before that of the rows: in the other order this run takes a segment more."""
    changes = {"batch_size": 8, "samples": 8, "seq_len": 48, "optimizer_in_backward": True, "max_grad_norm": 0.0}
    usual = {"task": "classification", "weights": "bf16", "optimizer_implementation": "foreach"}
    assert_as_measured(small(tmp_path, "mixtral", **usual, **changes))
