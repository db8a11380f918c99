"""CUDA's autocast policy on another device."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from engine.contract.records import Phase
from engine.forecast.recording import Recording
from engine.gpus.catalogue import find
from engine.tracing.autocast import Autocast
from engine.tracing.half import CpuTracer
from engine.tracing.kernels import CudaKernels


def _modes(autocast: Autocast) -> tuple[CudaKernels, CpuTracer, Recording]:
    recording = Recording()
    tracer = CpuTracer(recording, "cpu")
    tracer.enter(Phase.FORWARD)
    return CudaKernels(tracer, find("a100-40gb"), autocast), tracer, recording


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_are_in_half_precision_and_sums_are_not(dtype: torch.dtype) -> None:
    autocast = Autocast(dtype)
    kernels, tracer, _ = _modes(autocast)
    layer, x = torch.nn.Linear(8, 8), torch.ones(2, 8)
    with kernels, tracer, autocast.forward():
        hidden = layer(x)
        assert hidden.dtype is dtype
        assert (hidden @ hidden.t()).dtype is dtype
        assert F.gelu(hidden).dtype is dtype
        assert hidden.softmax(-1).dtype is torch.float32
        assert F.layer_norm(hidden, (8,)).dtype is torch.float32
        assert F.cross_entropy(hidden, torch.tensor([0, 1])).dtype is torch.float32
        assert torch.cat([hidden, x]).dtype is torch.float32
        assert (hidden + x).dtype is torch.float32
    with kernels, tracer:
        assert layer(x).dtype is torch.float32


def test_weights_are_cast_once_in_a_forward_and_forgotten_after_it() -> None:
    autocast = Autocast(torch.float16)
    kernels, tracer, recording = _modes(autocast)
    layer, x = torch.nn.Linear(16, 16, bias=False), torch.ones(4, 16)
    with kernels, tracer:
        with torch.no_grad(), autocast.forward():
            layer(layer(x))
            assert recording.sizes.count(16 * 16 * 2) == 1
        tracer.drain()
    dead = {~event for event in recording.events if event < 0}
    assert recording.sizes.index(16 * 16 * 2) in dead


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_replayed_checkpoint_is_cast_too(reentrant: bool) -> None:
    autocast = Autocast(torch.float16)
    kernels, tracer, _ = _modes(autocast)
    layer, x = torch.nn.Linear(8, 8), torch.ones(2, 8, requires_grad=True)
    seen: list[torch.dtype] = []

    def block(t: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = layer(t)
        seen.append(out.dtype)
        return out.exp()  # whose result is saved: the replay stops at the last saved tensor

    with kernels, tracer:
        with autocast.forward():
            loss = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=reentrant).float().sum()
        tracer.enter(Phase.BACKWARD)
        loss.backward()
    assert seen == [torch.float16, torch.float16]
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype is torch.float32


@pytest.mark.parametrize(("dtype", "copies"), [(torch.float16, 0), (torch.bfloat16, 1)])
def test_a_softmax_reads_fp16_itself_and_a_copy_of_bf16(dtype: torch.dtype, copies: int) -> None:
    autocast = Autocast(dtype)
    kernels, tracer, recording = _modes(autocast)
    scores = torch.randn(4, 64, dtype=dtype, requires_grad=True)
    with kernels, tracer:
        with autocast.forward():
            result = F.softmax(scores, dim=-1)
        assert recording.sizes == [4 * 64 * 4] * (1 + copies)
        result.backward(torch.ones_like(result))
    assert torch.allclose(result.detach(), scores.detach().float().softmax(-1), atol=1e-3)
    assert scores.grad is not None
    assert scores.grad.dtype is dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cross_entropy_of_half_logits_casts_the_log_softmax(dtype: torch.dtype) -> None:
    autocast = Autocast(dtype)
    kernels, tracer, recording = _modes(autocast)
    logits, labels = torch.randn(8, 64, dtype=dtype, requires_grad=True), torch.arange(8)
    with kernels, tracer, autocast.forward():
        loss = F.cross_entropy(logits, labels)
    assert loss.dtype is torch.float32
    assert recording.sizes[:2] == [8 * 64 * 2, 8 * 64 * 4]
    assert loss.item() == pytest.approx(F.cross_entropy(logits.detach().float(), labels).item(), rel=0.02)
