"""What is refused before anything is loaded, what is not, and that real runs with these knobs end well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event
from engine.contract.records import Outcome, RunRecord
from engine.devices.cpu import CpuDevice
from engine.models.catalogue import ARCHITECTURES
from engine.techniques import refusals
from engine.training import models
from engine.training.attempt import refuse_early
from engine.training.hub import Hub
from engine.training.run import Run

CONFIG = RunConfig(device="cpu", samples=8, batch_size=4, seq_len=16, dropout=False, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("changes", "package", "knob", "fix"),
    [
        ({"lora_rank": 8}, "peft", "lora_rank", "pip install 'traintop[lora]'"),
        ({"optimizer": "adamw-8bit"}, "torchao", "optimizer", "pip install 'traintop[optim8bit]'"),
        ({"optimizer": "paged-adamw-8bit"}, "bitsandbytes", "optimizer", "pip install 'traintop[quantised]'"),
        ({"weights": "nf4", "lora_rank": 4}, "bitsandbytes", "weights", "pip install 'traintop[quantised]'"),
        ({"weights": "int8", "lora_rank": 4}, "accelerate", "weights", "pip install 'traintop[quantised]'"),
    ],
)
def test_missing_packages_are_named_with_their_install(
    changes: dict[str, Any], package: str, knob: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(ConfigError) as refusal:
        refuse_early(CONFIG.with_values(**changes), CpuDevice())
    assert refusal.value.knob == knob
    assert fix in refusal.value.message
    refuse_early(CONFIG, CpuDevice())


@pytest.mark.parametrize(
    ("changes", "knob", "fix"),
    [
        ({"weights": "nf4"}, "weights", "use --lora-rank 16, or --weights bf16"),
        ({"weights": "int8", "lora_rank": 4, "torch_compile": True}, "torch_compile", "use --torch-compile off"),
        ({"momentum": 0.9}, "momentum", "use --optimizer sgd, or --momentum 0"),
    ],
)
def test_what_cannot_go_together_is_refused_with_the_fix(changes: dict[str, Any], knob: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        CONFIG.with_values(**changes)
    assert refusal.value.knob == knob
    assert fix in refusal.value.message


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"gradient_accumulation_steps": 2, "max_grad_norm": 0.0}, "--gradient-accumulation-steps 1"),
        ({"max_grad_norm": 1.0}, "--max-grad-norm 0"),
        ({"precision": "fp16", "max_grad_norm": 0.0}, "--precision fp32, or bf16 where the card has it"),
    ],
)
def test_the_optimizer_in_backward_is_refused_what_needs_all_gradients(changes: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        CONFIG.with_values(optimizer_in_backward=True, **changes)
    assert refusal.value.knob == "optimizer_in_backward"
    assert fix in refusal.value.message


def _run(config: RunConfig) -> tuple[RunRecord, list[Event]]:
    device, events = CpuDevice(), list[Event]()
    refuse_early(config, device)
    hub = Hub()
    hub.probe()
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING, device=device.info, started_at=0.0)
    run = Run(record=record, device=device, hub=hub, emit=events.append, should_stop=lambda: False)
    return run.execute(), events


_ALONE: dict[str, dict[str, Any]] = {
    "8-bit": {"optimizer": "adamw-8bit"},
    "in backward": {"optimizer_in_backward": True, "max_grad_norm": 0.0},
    "LoRA": {"lora_rank": 4},
    "flash": {"attention": "flash"},
    "flash, checkpointed": {"attention": "flash", "gradient_checkpointing": "on"},
    "all but compiled": {
        "optimizer": "adamw-8bit",
        "optimizer_in_backward": True,
        "max_grad_norm": 0.0,
        "lora_rank": 4,
        "attention": "flash",
        "gradient_checkpointing": "every-second",
        "precision": "bf16",
    },
    "irrelevant implementation": {"optimizer": "adafactor", "optimizer_implementation": "foreach"},
}


@pytest.mark.parametrize("changes", _ALONE.values(), ids=_ALONE)
def test_runs_with_these_knobs_complete(changes: dict[str, Any]) -> None:
    record, events = _run(CONFIG.with_values(**changes))
    assert record.outcome is Outcome.COMPLETED, record.message
    assert record.updates == 2
    notes = [getattr(event, "detail", "") for event in events]
    assert any("parameters are trained" in note for note in notes) == ("lora_rank" in changes)
    assert any("8-bit AdamW is slow on a CPU" in note for note in notes) == (changes.get("optimizer") == "adamw-8bit")


@pytest.mark.parametrize("optimizer_in_backward", [False, True])
@pytest.mark.parametrize("task", ["classification", "causal-lm"])
def test_the_mixture_of_experts_trains(task: str, optimizer_in_backward: bool) -> None:
    config = CONFIG.with_values(
        model="moe-tiny", task=task, epochs=4, optimizer_in_backward=optimizer_in_backward, max_grad_norm=0.0
    )
    record, events = _run(config)
    assert record.outcome is Outcome.COMPLETED, record.message
    losses = [event.loss for event in events if hasattr(event, "loss") and hasattr(event, "update")]
    assert losses[-1] < losses[0]
    assert any("moe-tiny: fresh initialisation (nobody has published" in getattr(e, "detail", "") for e in events)


@pytest.mark.parametrize(
    "changes",
    [{"lora_rank": 4}, {"gradient_checkpointing": "on"}, {"attention": "flash"}, {"precision": "bf16"}],
    ids=str,
)
def test_the_mixture_of_experts_takes_the_other_knobs(changes: dict[str, Any]) -> None:
    record, _ = _run(CONFIG.with_values(model="moe-tiny", **changes))
    assert record.outcome is Outcome.COMPLETED, record.message


def test_checkpointed_experts_give_the_same_loss() -> None:
    plain, _ = _run(CONFIG.with_values(model="moe-tiny", epochs=2))
    checkpointed, _ = _run(CONFIG.with_values(model="moe-tiny", epochs=2, gradient_checkpointing="on"))
    assert plain.train_loss == checkpointed.train_loss


def test_presets_without_a_hub_name_never_ask_the_hub() -> None:
    class Silent(Hub):
        def reachable(self) -> bool:
            raise AssertionError("asked")

    assert ARCHITECTURES["moe-tiny"].hub_name is None
    source = models.resolve("moe-tiny", Silent())
    assert source.location is None
    assert source.config.num_local_experts == 4
    assert source.config.num_experts_per_tok == 2


def test_a_broken_attention_names_the_knobs_value(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.with_values(attention="flash")
    source = models.resolve("bert-tiny", Hub())

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("BertForX does not support an attention implementation through SDPA yet.")

    import transformers

    head: Callable[..., Any] = transformers.AutoModelForSequenceClassification
    monkeypatch.setattr(head, "from_config", refuse)
    with pytest.raises(ConfigError, match="--attention flash does not exist for bert-tiny: use --attention eager"):
        models.build(source, models.shape(source, config, n_labels=2, vocab_size=None), config)


def test_local_folders_with_lora(tmp_path: Path) -> None:
    from transformers import GPT2Config

    GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=512).save_pretrained(tmp_path)
    record, _ = _run(CONFIG.with_values(model=str(tmp_path), task="causal-lm", lora_rank=4))
    assert record.outcome is Outcome.COMPLETED, record.message
