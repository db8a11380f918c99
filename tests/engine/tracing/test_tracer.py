"""The accounting core: births and deaths as CUDA's allocator would see them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.forecast import step
from engine.forecast.prepare import build_on_meta
from engine.forecast.recording import Recording
from engine.forecast.step import StepPlan, record_step
from engine.gpus.catalogue import find
from engine.tracing.half import CpuTracer
from engine.tracing.kernels import CudaKernels, choose_attention
from engine.tracing.stack import CURRENT, LECTURE_2023, Stack
from engine.tracing.tracer import Tracer
from engine.training.hub import Hub
from engine.training.models import resolve
from engine.workloads.data_shape import BatchShape
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.forecast.test_forecast import SMALL
from tests.engine.model_folders import model_folder

TWO = BatchShape(2, 64, False)


def _meta_model(config: RunConfig, stack: Stack) -> torch.nn.Module:
    source = resolve(config.model, Hub())
    return build_on_meta(source, config, stack, n_labels=2, vocab_size=None)


@contextmanager
def _tracing(
    device: str = "cpu", phase: Phase = Phase.FORWARD, workspace: int = 0
) -> Iterator[tuple[Tracer, Recording]]:
    recording = Recording()
    tracer = Tracer(recording, device, workspaces=(workspace, 0))
    tracer.enter(phase)
    with CudaKernels(tracer, find("tesla-p4")), tracer:
        yield tracer, recording
        tracer.drain()


def _alive(recording: Recording) -> list[int]:
    dead = {~event for event in recording.events if event < 0}
    return [size for slot, size in enumerate(recording.sizes) if slot not in dead]


def test_a_storage_is_born_once_and_dies_once() -> None:
    with _tracing() as (_, recording):
        whole = torch.empty(10, 10)
        part = whole[2:4].t().reshape(-1)[:3]
        del whole
        assert _alive(recording) == [400, 80]  # the view holds the whole; reshape copied two rows
        del part
        torch.empty(1)
    assert recording.sizes == [400, 80, 4]
    assert sorted(event for event in recording.events if event < 0) == [-3, -2, -1]


def test_halves_are_multiplied_through_fp32_and_accounted_as_halves() -> None:
    """On a CPU, where fp16 arithmetic takes eighty times as long; a GPU adds the products up in fp32, too."""
    torch.manual_seed(1)
    a, b, c = torch.randn(8, 24).half(), torch.randn(24, 40).half(), torch.randn(40).half()
    recording = Recording()
    with CpuTracer(recording, "cpu"):
        product, sum_ = a @ b, torch.addmm(c, a, b)
    assert recording.sizes == [2 * 8 * 40] * 2
    assert torch.equal(product, (a.float() @ b.float()).half())
    assert torch.equal(sum_, torch.addmm(c.float(), a.float(), b.float()).half())


def test_attention_of_halves_goes_through_fp32_forward_and_backward() -> None:
    torch.manual_seed(1)
    inputs = [torch.randn(2, 2, 16, 8).half() for _ in range(3)]
    results = []
    for make in (torch.Tensor.half, torch.Tensor.float):
        leaves = [make(tensor.detach()).clone().requires_grad_() for tensor in inputs]
        with CpuTracer(Recording(), "cpu"):
            out = F.scaled_dot_product_attention(*leaves)
            out.sum().backward()  # type: ignore[no-untyped-call]
        results.append([out.detach(), *[leaf.grad for leaf in leaves]])
    halves, floats = results
    assert all(half.dtype is torch.float16 for half in halves)
    torch.testing.assert_close([half.float() for half in halves], floats, rtol=1e-2, atol=5e-3)
    assert torch.equal(halves[0], floats[0].half())


def test_numbers_in_host_memory_are_not_on_the_gpu() -> None:
    with _tracing() as (_, recording):
        torch.tensor(1.0)
        torch.get_rng_state()
    assert recording.sizes == []


def test_dropout_keeps_a_byte_per_element() -> None:
    x = torch.ones(8, 16, requires_grad=True)
    with _tracing() as (_, recording):
        y = F.dropout(x, 0.5)
        assert recording.sizes == [8 * 16, 8 * 16 * 4]
        assert len(_alive(recording)) == 2
    assert y.count_nonzero() < y.numel()


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_replayed_checkpoint_is_seen_like_a_forward(reentrant: bool) -> None:
    x = torch.ones(8, 16, requires_grad=True)
    with _tracing() as (tracer, recording):
        y = torch.utils.checkpoint.checkpoint(lambda t: F.dropout(t, 0.5) * t, x, use_reentrant=reentrant)
        tracer.enter(Phase.BACKWARD)
        before = len(recording.sizes)
        y.sum().backward()
    assert 8 * 16 in recording.sizes[before:]  # the mask
    assert recording.categories[recording.sizes.index(8 * 16, before)] == "activations"


def test_autograd_adds_in_place() -> None:
    """Two uses of a tensor: one gradient is added to the other, without a third."""
    x = torch.ones(64, requires_grad=True)
    with _tracing() as (tracer, recording):
        y = (x * 2).exp() + (x * 3).sin()
        tracer.enter(Phase.BACKWARD)
        before = len(recording.sizes)
        y.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * (x * 2).exp() + 3 * (x * 3).cos())
    # the loss's gradient is 4 bytes; exp and sin, then the products with 2 and 3, and cos: no sum
    assert [size for size in recording.sizes[before:] if size == 256] == [256] * 5


def test_later_micro_steps_add_to_the_gradients_in_place() -> None:
    layer = torch.nn.Linear(32, 32)
    with _tracing() as (tracer, recording):
        tracer.account_model(layer)
        for _ in range(3):
            tracer.enter(Phase.FORWARD)
            loss = layer(torch.ones(4, 32)).sum()
            tracer.enter(Phase.BACKWARD)
            loss.backward()
    of_gradients = [s for s, c in zip(recording.sizes, recording.categories, strict=True) if c == "gradients"]
    assert sorted(of_gradients) == [32 * 4, 32 * 32 * 4]


def test_workspaces_come_with_the_first_product_of_either_thread() -> None:
    a = torch.ones(4, 4, requires_grad=True)
    with _tracing(workspace=1000) as (_, recording):
        torch.ones(4)
        assert 1000 not in recording.sizes
        b = a @ a @ a
        assert recording.sizes.count(1000) == 1
        b.sum().backward()
    assert recording.sizes.count(1000) == 2
    assert _alive(recording).count(1000) == 2


def test_what_a_step_leaves_is_optimizer_state() -> None:
    parameter = torch.nn.Parameter(torch.ones(100))
    parameter.grad = torch.ones(100)
    optimizer = torch.optim.AdamW([parameter], foreach=False)
    with _tracing(phase=Phase.OPTIMIZER) as (tracer, recording):
        optimizer.step()
        gc.collect()
        tracer.enter(Phase.DATA)
    states = [s for s, c in zip(recording.sizes, recording.categories, strict=True) if c == "optimizer"]
    assert states == [400, 400]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_gives_torchs_results_without_its_matrix(dropout: float, masked: bool) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 200, 8, requires_grad=True) for _ in range(3)]
    mask = torch.rand(2, 1, 200, 200) > 0.2 if masked else None

    def attend() -> tuple[torch.Tensor, ...]:
        torch.manual_seed(1)
        out = F.scaled_dot_product_attention(*inputs, attn_mask=mask, dropout_p=dropout)
        return (out, *torch.autograd.grad(out.square().sum(), inputs), torch.rand(1))

    plain = attend()
    with _tracing() as (_, recording):
        traced = attend()
    for one, other in zip(plain, traced, strict=True):
        assert torch.equal(one, other)
    n_scores = 2 * 3 * 200 * 200 * 4
    assert max(recording.sizes) < n_scores
    assert 2 * 3 * 224 * 4 in recording.sizes  # log-sum-exp, rows rounded to 32


def _heads(dtype: torch.dtype, n: int = 4, width: int = 64) -> torch.Tensor:
    return torch.empty(2, n, 8, width, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("dtype", "keys", "masked", "capability", "kernel"),
    [
        (torch.float32, 4, False, (6, 1), "efficient"),
        (torch.float32, 4, True, (8, 0), "efficient"),
        (torch.float32, 2, False, (8, 0), "math"),  # only flash knows shared keys
        (torch.float16, 4, False, (7, 5), "efficient"),
        (torch.float16, 2, False, (8, 0), "flash"),
        (torch.bfloat16, 4, False, (9, 0), "flash"),
        (torch.bfloat16, 4, True, (9, 0), "efficient"),
        (torch.float32, 4, False, (3, 7), "math"),
    ],
)
def test_the_kernel_that_cuda_would_choose(
    dtype: torch.dtype, keys: int, masked: bool, capability: tuple[int, int], kernel: str
) -> None:
    query, key = _heads(dtype), _heads(dtype, keys)
    mask = torch.empty(2, 1, 8, 8, dtype=torch.bool, device="meta") if masked else None
    assert choose_attention(query, key, key, mask, keys != 4, capability) == kernel


def _plan(config: RunConfig, model: torch.nn.Module, gpu: str, stack: Stack) -> StepPlan:
    return StepPlan(config=config, model=model, gpu=find(gpu), stack=stack, fields=dummy_shape(config).fields)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"attention": "eager", "optimizer_implementation": "foreach"}),
        ("bert", {"precision": "fp16", "gradient_checkpointing": "on"}),
        ("gpt2", {"task": "causal-lm", "optimizer": "adafactor"}),
        ("llama", {"task": "causal-lm", "optimizer_implementation": "loop"}),
        ("t5", {"task": "seq2seq-lm"}),
        ("moe", {"task": "causal-lm"}),
    ],
)
def test_the_quick_kernels_answer_as_torchs_do(
    tmp_path: Path, family: str, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    config = SMALL.with_values(model=model_folder(tmp_path, family), **changes)
    plan = _plan(config, _meta_model(config, CURRENT), "a100-40gb", CURRENT)
    quick = record_step(plan, TWO)
    monkeypatch.setattr(step, "_KERNELS", {})
    slow = record_step(plan, TWO)
    assert quick.events == slow.events
    assert quick.sizes == slow.sizes


def test_the_stack_of_2023_holds_a_second_copy_in_the_step(tmp_path: Path) -> None:
    config = LECTURE_2023.adapt(SMALL.with_values(model=model_folder(tmp_path, "bert")))
    assert (config.attention, config.optimizer_implementation) == ("eager", "foreach")
    peaks = {}
    for stack in (LECTURE_2023, CURRENT):
        model = _meta_model(config, stack)
        recording = record_step(_plan(config, model, "tesla-p4", stack), TWO)
        peaks[stack.name] = _peak_of(recording, Phase.OPTIMIZER)
    # of the matrices; today's one copy is of the vectors too, which were stepped by themselves then
    expected = sum(4 * p.numel() * (1 if p.dim() > 1 else -1) for p in model.parameters())
    _, lt_workspace = CURRENT.workspaces((6, 1))
    assert peaks["lecture-2023"] - (peaks["current"] - lt_workspace) == expected


def _peak_of(recording: Recording, phase: Phase) -> int:
    now = peak = 0
    for segment in recording.segments():
        for event in recording.events[segment.start : segment.end]:
            now += recording.sizes[event] if event >= 0 else -recording.sizes[~event]
            peak = max(peak, now) if segment.phase is phase else peak
    return peak
