"""Flash attention: only its kernel runs, in forward and in what backward computes again, with the same figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import DeviceInfo
from engine.devices.cpu import CpuDevice
from engine.devices.precision import Precision
from engine.techniques import attention, checkpointing
from engine.training.trainer import micro_step

FLASH = RunConfig(device="cpu", attention="flash", dropout=False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "attention" in func.__name__:
            self.calls[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def _bert(how: str, dropout: float = 0.0) -> BertForSequenceClassification:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=512,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        problem_type="single_label_classification",
    )
    return BertForSequenceClassification._from_config(config, attn_implementation=how)


def _batch(*, padded: bool = False) -> dict[str, torch.Tensor]:
    batch = {"input_ids": torch.arange(32).reshape(2, 16) + 5, "labels": torch.tensor([0, 1])}
    if padded:
        batch["attention_mask"] = (torch.arange(16) < torch.tensor([[16], [9]])).long()
    return batch


def _step(
    model: PreTrainedModel, config: RunConfig, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, Counter[str]]:
    device, kernels = CpuDevice(), _Kernels()
    with attention.kernel(config, device), kernels:
        loss = micro_step(model.train(), batch, Precision(config.precision, "cpu"), 1, lambda phase: None)
    return loss, kernels.calls


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("how", ["off", "on"])
def test_only_the_flash_kernel_runs_and_nothing_else_changes(how: str, padded: bool) -> None:
    config = FLASH.with_values(gradient_checkpointing=how)
    flash, eager = _bert(attention.implementation(config)), _bert("eager")
    checkpointing.apply(flash, config)
    loss, calls = _step(flash, config, _batch(padded=padded))
    forwards = {"off": 2, "on": 4}[how]  # two layers, and again in backward
    name = "_scaled_dot_product_flash_attention_for_cpu"
    assert calls == {name: forwards, name + "_backward": 2}

    expected, _ = _step(eager, config.with_values(attention="eager"), _batch(padded=padded))
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    for (name, mine), theirs in zip(flash.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)


def _switches() -> tuple[bool, ...]:
    """flash, math, memory-efficient, cuDNN: allowed or not."""
    names = ("flash_sdp_enabled", "math_sdp_enabled", "mem_efficient_sdp_enabled", "cudnn_sdp_enabled")
    return tuple(getattr(torch.backends.cuda, name)() for name in names)


def test_the_switch_is_put_back() -> None:
    before = _switches()
    during: list[tuple[bool, ...]] = []

    def fail() -> None:
        with attention.kernel(FLASH, CpuDevice()):
            during.append(_switches())
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        fail()
    assert during == [(True, False, False, False)]
    assert _switches() == before


@pytest.mark.parametrize("config", [FLASH.with_values(attention="sdpa"), FLASH.with_values(attention="eager")])
def test_other_attention_sets_no_switch(config: RunConfig) -> None:
    before = _switches()
    with attention.kernel(config, CpuDevice()):
        assert _switches() == before


def _t5() -> PreTrainedModel:
    model: PreTrainedModel = T5ForConditionalGeneration(
        T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=512, decoder_start_token_id=0)
    )
    return model


def _gpt2() -> PreTrainedModel:
    model: PreTrainedModel = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=512, n_positions=16))
    return model


def _check(model: PreTrainedModel, config: RunConfig, batch: dict[str, torch.Tensor]) -> None:
    device = CpuDevice()
    with ExitStack() as stack:
        stack.enter_context(attention.kernel(config, device))
        attention.check(model, batch, config, device)


@pytest.mark.parametrize(
    ("make", "dropout", "words"),
    [
        (lambda: _bert("sdpa", dropout=0.1), True, "use --dropout off, or --attention sdpa"),
        (_gpt2, True, "use --dropout off, or --attention sdpa"),
        (_t5, False, "has no kernel on this device for the attention of bert-tiny: use --attention sdpa"),
    ],
    ids=["bert with dropout", "gpt2 with dropout", "t5"],
)
def test_what_flash_cannot_compute_is_refused(make: Callable[[], PreTrainedModel], dropout: bool, words: str) -> None:
    tokens = _batch()["input_ids"]
    model = make()
    labels = torch.tensor([0, 1]) if isinstance(model, BertForSequenceClassification) else tokens
    with pytest.raises(ConfigError, match=words) as refusal:
        _check(model, FLASH.with_values(dropout=dropout), {"input_ids": tokens, "labels": labels})
    assert refusal.value.knob == "attention"


def test_the_trial_changes_nothing() -> None:
    model = _bert("sdpa")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _check(model, FLASH, _batch())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def _gpu(kind: str, capability: tuple[int, int]) -> CpuDevice:
    """A device that says of itself what a GPU says."""
    device = CpuDevice()
    device.info = DeviceInfo(name="Tesla T4", kind=kind)
    device.capability = capability
    return device


@pytest.mark.parametrize("kind", ["cuda", "virtual"])
@pytest.mark.parametrize(
    ("changes", "capability", "words"),
    [
        ({"precision": "fp16"}, (7, 5), "Tesla T4 has 7.5: use --attention sdpa"),
        ({"precision": "fp32"}, (8, 0), "this run in fp32: use --precision bf16, or --attention sdpa"),
        ({"precision": "tf32"}, (8, 0), "this run in tf32: use --precision bf16, or --attention sdpa"),
        ({"precision": "bf16", "workload": "reviews"}, (8, 0), "masks.*use --attention sdpa"),
        (
            {"precision": "bf16", "workload": "text", "task": "causal-lm", "padding": "packed"},
            (8, 0),
            "masks.*use --attention sdpa",
        ),
    ],
)
def test_refused_on_gpus_where_it_does_not_exist(
    changes: dict[str, Any], capability: tuple[int, int], words: str, kind: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        attention.refuse(FLASH.with_values(**changes), _gpu(kind, capability))


def test_allowed_on_new_gpus_in_16_bits_and_on_cpus() -> None:
    attention.refuse(FLASH.with_values(precision="bf16", dropout=True), _gpu("cuda", (8, 0)))
    attention.refuse(FLASH, CpuDevice())
