"""Weights in 8 and 4 bits: the forecast's stand-ins against bitsandbytes' layers, and forecasts against runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.records import Phase
from engine.forecast import quantised as stand_ins
from engine.forecast.forecast import Forecaster
from engine.forecast.quantised import lora_layers, stand_in
from engine.forecast.step import MetaTracer
from engine.gpus.catalogue import find
from engine.techniques import quantised
from engine.tracing.autocast import Autocast
from engine.tracing.half import CpuTracer
from engine.tracing.kernels import CudaKernels
from engine.tracing.quantised import as_on_cuda, cuda_paths, tensors_of
from engine.tracing.unified import UNIFIED_ZEROS
from engine.training.hub import Hub
from tests.engine.forecast.five_models import FIVE, assert_as_measured, small

GPU = find("a100-40gb")
KINDS = ("nf4", "int8")


class Log:
    """A sink that writes sizes down: those born, and negative ones of what died."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.events: list[int] = []

    def allocate(self, size: int, category: str, stream: int = 0) -> int:
        self.sizes.append(size)
        self.events.append(size)
        return len(self.sizes) - 1

    def allocate_by(self, rule: Any, category: str) -> int | None:
        return self.allocate(rule.n_bytes, category) if rule.n_bytes else None

    def free(self, handle: int) -> None:
        self.events.append(-self.sizes[handle])

    def recategorize(self, handle: int, category: str) -> None:
        pass


class Net(torch.nn.Module):
    """Two linear layers, one of them without a bias, as transformers' models have them in all shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.first = torch.nn.Linear(192, 320)
        self.second = torch.nn.Linear(320, 64, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.nn.functional.gelu(self.first(x)))


def adapted(weights: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """`Net` quantised by the library, or with stand-ins on the meta device, and LoRA's layers beside."""
    with torch.device(device):
        net = Net().to(dtype)
    made = quantised._four_bits if weights == "nf4" else quantised._eight_bits
    quantised.quiet()
    for name in ("first", "second"):
        layer = getattr(net, name)
        shape = layer.weight.shape
        new = stand_in(layer, shape, weights) if device == "meta" else made(layer, shape)
        setattr(net, name, new)
    setattr(net, "is_loaded_in_4bit" if weights == "nf4" else "is_loaded_in_8bit", True)
    settings = LoraConfig(r=4, target_modules=["first", "second"], lora_dropout=0.1)
    if device == "meta":
        settings._register_custom_module(lora_layers())
        with torch.device("meta"):
            return get_peft_model(net, settings)
    return get_peft_model(net, settings)


def traced(net: torch.nn.Module, autocast: torch.dtype | None, x: torch.Tensor, device: str) -> list[int]:
    """Births and deaths of loading, a forward and a backward."""
    log = Log()
    tracer = CpuTracer(log, "cpu") if device == "cpu" else MetaTracer(log, "meta")
    policy = Autocast(autocast) if autocast is not None else None
    if isinstance(tracer, CpuTracer):
        tracer.paths = cuda_paths(tracer)
    hooks = [*tracer.account_model(net), *as_on_cuda(net, policy)]
    net.train()
    with CudaKernels(tracer, GPU, policy), tracer:
        tracer.enter(Phase.FORWARD)
        if policy is None:
            loss = net(x).sum()
        else:
            with policy.forward():
                loss = net(x).sum()
        tracer.enter(Phase.BACKWARD)
        loss.backward()
        del loss
        tracer.drain()
    tracer.forget()
    for hook in hooks:
        hook.remove()
    return log.events


@pytest.mark.parametrize("weights", KINDS)
@pytest.mark.parametrize(
    ("stored", "autocast", "given"),
    [
        (torch.float32, None, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.float32),  # what a norm gives under autocast
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16, torch.float16),
    ],
)
def test_stand_ins_hold_what_the_library_holds(
    weights: str, stored: torch.dtype, autocast: torch.dtype | None, given: torch.dtype
) -> None:
    """Event by event: what is born, how large, and what dies before what."""
    logs = []
    for device in ("cpu", "meta"):
        x = torch.randn(3, 40, 192).to(device=device, dtype=given).requires_grad_()
        logs.append(traced(adapted(weights, stored, device), autocast, x, device))
    assert logs[0] == logs[1]
    assert len(logs[0]) > 60


WAYS: dict[str, dict[str, Value]] = {
    "fp32": {},
    "bf16": {"precision": "bf16", "gradient_accumulation_steps": 2},
    "fp16": {"precision": "fp16", "lora_targets": "all-linear", "lora_dropout": 0.1},
    "bf16, checkpointed": {"precision": "bf16", "gradient_checkpointing": "on"},
    "paged": {"optimizer": "paged-adamw-8bit", "lora_rank": 64, "lora_targets": "all-linear"},
}
FAST = {("gpt2", "nf4", "fp16"), ("llama", "int8", "bf16, checkpointed"), ("t5", "nf4", "paged")}
FAST |= {("mixtral", "nf4", "bf16"), ("bert", "int8", "bf16")}


@pytest.mark.parametrize(
    ("kind", "weights", "way"),
    [
        pytest.param(kind, weights, way, marks=[] if (kind, weights, way) in FAST else [pytest.mark.slow])
        for kind in FIVE
        for weights in KINDS
        for way in WAYS
    ],
)
def test_the_forecast_is_what_a_run_measures(tmp_path: Path, kind: str, weights: str, way: str) -> None:
    changes = WAYS[way]
    if kind == "mixtral" and changes.get("lora_targets") == "all-linear":
        changes = {**changes, "lora_targets": "default"}  # experts that have matrices beside them cannot be forecast
    assert_as_measured(small(tmp_path, kind, **{"lora_rank": 4, "weights": weights, **changes}))


OPTIMIZERS: dict[str, dict[str, Value]] = {
    "momentum, fused": {"optimizer": "sgd", "momentum": 0.9},
    "momentum, foreach": {"optimizer": "sgd", "momentum": 0.9, "optimizer_implementation": "foreach"},
    "momentum, loop, bf16": {
        "optimizer": "sgd",
        "momentum": 0.9,
        "optimizer_implementation": "loop",
        "weights": "bf16",
    },
    "momentum, scaled": {"optimizer": "sgd", "momentum": 0.9, "precision": "fp16"},
    "paged": {"optimizer": "paged-adamw-8bit"},
    "paged, in backward": {"optimizer": "paged-adamw-8bit", "optimizer_in_backward": True, "max_grad_norm": 0.0},
}


QUICK = ("momentum, fused", "paged")


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[] if way in QUICK else [pytest.mark.slow]) for way in OPTIMIZERS]
)
def test_optimizers(tmp_path: Path, way: str) -> None:
    run = assert_as_measured(small(tmp_path, "llama", **OPTIMIZERS[way]))
    config = run.config
    told = Forecaster(Hub()).forecast(config, GPU)
    assert told.peak_used == run.peak_used  # states in unified memory are on the card as long as there is room


def test_paged_states_decide_no_verdict(tmp_path: Path) -> None:
    """Where the card is full they are on the host: used memory ends at the limit, and the run fits."""
    config = small(tmp_path, "llama", optimizer="paged-adamw-8bit")
    hub = Hub()
    roomy = Forecaster(hub).forecast(config, GPU)
    held = roomy.peak_used - roomy.peak_reserved
    states = sum(2 * n for n in (5000 * 128, 5000 * 128))  # the embeddings and the head alone are that large
    assert any("unified memory" in note for note in roomy.notes)
    unpaged = Forecaster(hub).forecast(config.with_values(optimizer="sgd"), GPU)
    assert held - (unpaged.peak_used - unpaged.peak_reserved) == states
    limit = -(-(roomy.peak_used - states // 2) // 2**20)
    tight = Forecaster(hub).forecast(config.with_values(vram_limit=limit), GPU)
    assert tight.fits
    assert tight.peak_used == limit * 2**20


def test_double_quantisation_takes_an_eighth_of_a_bit() -> None:
    """8/64 + 32/(64 × 256) = 0.127 bits per parameter beside the 4 (QLoRA, section 3)."""
    linear = torch.nn.Linear(4096, 11008, bias=False, device="meta", dtype=torch.bfloat16)
    made: Any = stand_in(linear, linear.weight.shape, "nf4")
    tensors = tensors_of(made.weight)
    assert tensors is not None
    bits = sum(8 * tensor.nbytes for tensor in tensors) / linear.weight.numel()
    assert bits == pytest.approx(4.127, abs=5e-4)


QWEN = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}


def test_the_footprint_of_a_known_model(tmp_path: Path) -> None:
    """`get_memory_footprint` of Qwen2.5-7B in nf4 is 5.44 GB (as many have printed it); scales are not in it."""
    from engine.forecast.prepare import build_on_meta
    from engine.tracing.stack import CURRENT
    from engine.training import models

    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    config = RunConfig(model=str(tmp_path), task="causal-lm", weights="nf4", precision="fp16", lora_rank=8)
    source = models.resolve(config.model, Hub())
    net = build_on_meta(source, config, CURRENT, n_labels=2, vocab_size=None)
    footprint = sum(parameter.nbytes for name, parameter in net.named_parameters() if "lora_" not in name)
    assert footprint == pytest.approx(5.44e9, abs=0.005e9)
    trained = quantised.n_parameters(net, trained=True)
    assert quantised.n_parameters(net) - trained == 7_615_616_512


def test_a_forecast_needs_no_library(tmp_path: Path) -> None:
    """In a process that cannot import it the forecast is the same one."""
    config = small(tmp_path, "gpt2", weights="nf4", precision="bf16", lora_rank=4, optimizer="paged-adamw-8bit")
    here = Forecaster(Hub()).forecast(config, GPU)
    program = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name.startswith("bitsandbytes") else find_spec(name, *more)
sys.modules["bitsandbytes"] = None
from engine.contract.config import RunConfig
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.training.hub import Hub
made = Forecaster(Hub()).forecast(RunConfig(**eval(sys.argv[1])), find("a100-40gb"))
print(made.peak_reserved, made.peak_allocated, made.peak_used)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, repr(config.to_dict())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-3:] == [str(here.peak_reserved), str(here.peak_allocated), str(here.peak_used)]


def test_dequantising_takes_time(tmp_path: Path) -> None:
    """The weights are made anew in forward and in backward: more traffic and more operators than with 16 bits."""
    config = small(tmp_path, "llama", lora_rank=4, precision="bf16", weights="bf16")
    rates = [
        Forecaster(Hub()).forecast(config.with_values(weights=weights), GPU) for weights in ("bf16", "nf4", "int8")
    ]
    fast, *slow = [made.samples_per_s for made in rates]
    assert fast is not None
    assert all(rate is not None and rate < fast for rate in slow)
    assert rates[0].flops_per_sample == rates[1].flops_per_sample == rates[2].flops_per_sample


def test_unified_memory_is_zeros_beside_the_allocator() -> None:
    log = Log()
    like = torch.ones(7, 3)
    with CpuTracer(log, "cpu"):
        state = UNIFIED_ZEROS(like, torch.uint8)
    assert torch.equal(state, torch.zeros(7, 3, dtype=torch.uint8))


def test_cards_that_are_too_old_are_refused(tmp_path: Path) -> None:
    config = small(tmp_path, "llama", lora_rank=4, weights="int8")
    with pytest.raises(ConfigError, match=r"needs compute capability 7\.5 or newer.*use --weights nf4 or fp16"):
        Forecaster(Hub()).forecast(config, find("tesla-v100-16gb"))
    assert Forecaster(Hub()).forecast(config.with_values(weights="nf4"), find("tesla-v100-16gb")).fits


def test_stand_ins_begin_as_they_were() -> None:
    """int8 gives its bias the type of what it is given; another trace must not see that."""
    layer = torch.nn.Linear(8, 4, device="meta", dtype=torch.bfloat16)
    made: Any = stand_in(layer, layer.weight.shape, "int8")
    made(torch.empty(2, 8, device="meta"))
    assert made.bias.dtype is torch.float32
    stand_ins.begin(made)
    assert made.bias.dtype is torch.bfloat16


def test_selective_checkpointing_keeps_quantised_products_too(tmp_path: Path) -> None:
    """They are one operator of the library to what picks the results that are kept."""
    changes = {"gradient_checkpointing": "selective", "weights": "nf4", "lora_rank": 8, "lora_targets": "all-linear"}
    assert_as_measured(small(tmp_path, "gpt2", samples=6, seq_len=48, **changes))
