"""Two ranks with a batch each train what one rank trains with the batch of both, to the fifth digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.knob import Value
from engine.contract.records import Outcome
from tests.engine.techniques.parallel import cases
from tests.engine.techniques.parallel.cases import Told
from tests.engine.techniques.parallel.ranks import Ranks
from tests.engine.techniques.parallel.small_runs import WAYS, assert_equal, configured, one_of


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_windows_of_two_ranks(two: Ranks, tmp_path: Path, family: str) -> None:
    assert_equal(two, configured(tmp_path, family, gradient_accumulation_steps=4, max_grad_norm=0.1, weight_decay=0.01))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("accumulation", "norm"), [(1, 0.1), (4, 0.0), (1, 0.0)])
def test_windows_and_norms_of_two_ranks(
    two: Ranks, tmp_path: Path, family: str, accumulation: int, norm: float
) -> None:
    assert_equal(two, configured(tmp_path, family, gradient_accumulation_steps=accumulation, max_grad_norm=norm))


def test_labels_count_alike_in_all_ranks(two: Ranks, tmp_path: Path) -> None:
    config = configured(tmp_path, "llama", padding="packed", gradient_accumulation_steps=2, samples=22)
    assert_equal(two, config)
    told: Told = two.each(cases.train, config)[0]
    labels = [[share.n_tokens for share in update.ranks] for update in told.updates]
    assert all(len(of_ranks) == 2 for of_ranks in labels)


def test_classes_weigh_alike_in_all_ranks(two: Ranks, tmp_path: Path) -> None:
    config = configured(
        tmp_path, "bert", class_weights="balanced", label_smoothing_factor=0.1, gradient_accumulation_steps=2
    )
    alone = two.each(cases.train, one_of(config), only=0)[0]
    for told in two.each(cases.train, config.with_values(parallel="fsdp")):
        assert told.losses == pytest.approx(alone.losses, abs=1e-5)
        assert max(float((told.weights[n] - w).abs().max()) for n, w in alone.weights.items()) <= 1e-5


MORE: dict[str, tuple[str, dict[str, Value]]] = {
    "lengths alike": ("llama", {"padding": "bucketed"}),
    "checkpointing": ("llama", {"gradient_checkpointing": "on"}),
    "every second": ("bert", {"gradient_checkpointing": "every-second"}),
    "selective": ("llama", {"gradient_checkpointing": "selective"}),
    "gathered meanwhile": ("llama", {"reshard_after_forward": False, "gradient_accumulation_steps": 2}),
    "offloading": ("llama", {"activation_offloading": True, "gradient_checkpointing": "on"}),
    "no logits": ("llama", {"cross_entropy": "chunked"}),
    "no logits, tied": ("gpt2", {"cross_entropy": "chunked", "gradient_accumulation_steps": 2}),
    "LoRA": ("llama", {"lora_rank": 4}),
    "LoRA beside 16 bits": ("llama", {"lora_rank": 4, "weights": "bf16"}),
    "LoRA and a head": ("bert", {"lora_rank": 4}),
    "foreach": ("bert", {"optimizer_implementation": "foreach"}),
    "loop": ("bert", {"optimizer_implementation": "loop"}),
    "sgd": ("bert", {"optimizer": "sgd", "momentum": 0.9, "optimizer_implementation": "foreach"}),
    "masked words": ("bert", {"task": "masked-lm", "workload": "text"}),
    "two texts": ("t5", {"task": "seq2seq-lm"}),
    "experts": ("moe", {}),
    "tokens' classes": ("bert", {"task": "token-classification", "workload": "dummy"}),
    "a cosine": ("bert", {"lr_scheduler": "cosine", "warmup_steps": 0.3, "epochs": 2}),
    "evaluations": ("bert", {"eval_steps": 2, "eval_samples": 5, "early_stopping_patience": 1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE)
def test_every_technique_of_two_ranks(two: Ranks, tmp_path: Path, case: str) -> None:
    family, knobs = MORE[case]
    assert_equal(two, configured(tmp_path, family, **knobs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("knobs", "ways", "tolerance"),
    [
        ({"optimizer": "adafactor"}, ("ddp", "zero1"), 1e-5),
        ({"optimizer": "adamw-8bit"}, ("ddp", "zero1"), 1e-4),
        ({"optimizer": "paged-adamw-8bit"}, ("ddp", "zero1"), 1e-3),  # a state's rounding may go the other way
        ({"lora_rank": 4, "weights": "nf4"}, ("ddp", "zero1"), 1e-5),
        ({"lora_rank": 4, "weights": "int8"}, ("ddp", "zero1"), 1e-5),
    ],
)
def test_what_fsdp_does_not_divide(
    two: Ranks, tmp_path: Path, knobs: dict[str, Value], ways: tuple[str, ...], tolerance: float
) -> None:
    assert_equal(two, configured(tmp_path, "llama", **knobs), ways, tolerance)


def test_overflowing_gradients_are_skipped_by_all(two: Ranks, tmp_path: Path) -> None:
    config = configured(tmp_path, "bert", precision="fp16", samples=32)
    both: list[Told] = [
        told for way in WAYS for told in two.each(cases.train_scaled, config.with_values(parallel=way), 2.0**20)
    ]
    decisions = [(update.skipped, update.loss_scale) for update in both[0].updates]
    assert decisions[0][0]
    assert not decisions[-1][0]
    for told in both:
        assert told.outcome is Outcome.COMPLETED, told.message
        assert [(update.skipped, update.loss_scale) for update in told.updates] == decisions
        assert told.losses == pytest.approx(both[0].losses, abs=1e-2)  # fp16
