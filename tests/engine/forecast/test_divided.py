"""A step of a model that FSDP divides, traced on meta tensors: the same, event by event, as on real tensors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from engine.allocator.allocator import CachingAllocator
from engine.contract.config import RunConfig
from engine.contract.forecast_types import Forecast
from engine.devices.precision import TracedPrecision
from engine.forecast.forecast import Forecaster
from engine.forecast.prepare import build_on_meta
from engine.forecast.recording import Recording
from engine.forecast.replay import Player
from engine.forecast.sequence import Act, Kind
from engine.forecast.step import StepPlan, _Player, record_step
from engine.forecast.traces import Traces
from engine.forecast.work import Work
from engine.gpus.catalogue import find
from engine.techniques.parallel.several import several
from engine.tracing import fsdp_private
from engine.tracing.half import CpuTracer
from engine.tracing.kernels import CudaKernels
from engine.tracing.stack import CURRENT
from engine.training.hub import Hub
from engine.training.models import resolve
from engine.workloads.data_shape import BatchShape
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.forecast.five_models import FIVE, TASKS

WORLD = 3  # no weight of these models can be divided evenly


def _plan(folder: Path, kind: str, **knobs: Any) -> StepPlan:
    (folder / "config.json").write_text(json.dumps({**FIVE[kind], "num_hidden_layers": 2}))
    config = RunConfig(
        **{
            "model": str(folder),
            "task": TASKS[kind],
            "seq_len": 32,
            "samples": 12,
            "gpus": WORLD,
            "parallel": "fsdp",
            **knobs,
        }
    )
    model = build_on_meta(resolve(config.model, Hub()), config, CURRENT, n_labels=2, vocab_size=None)
    return StepPlan(config=config, model=model, gpu=find("a100-40gb"), stack=CURRENT, fields=dummy_shape(config).fields)


class _RealPlayer(_Player):
    """Plays with real tensors."""

    def _new_batch(self) -> dict[str, torch.Tensor]:
        shapes = {name: self._shape.shape_of(name, per_token) for name, per_token in self._plan.fields}
        return {name: torch.ones(shape, dtype=torch.int64) for name, shape in shapes.items()}


@contextmanager
def _fake_ranks(n: int) -> Iterator[None]:
    dist.init_process_group("fake", rank=0, world_size=n, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def _record_on_cpu(plan: StepPlan, batch: BatchShape, *, accumulates: bool) -> Recording:
    """As `record_step`, with weights on the CPU and PyTorch as it is."""
    plan.model.to_empty(device="cpu")
    if plan.model.config.tie_word_embeddings:  # type: ignore[union-attr]
        plan.model.tie_weights()  # type: ignore[operator]
    with torch.no_grad():
        for tensor in (*plan.model.parameters(), *plan.model.buffers()):
            tensor.fill_(0.01 if tensor.is_floating_point() else 0)
    recording = Recording()
    workspaces = CURRENT.workspaces(plan.gpu.compute_capability)
    tracer = CpuTracer(recording, "cpu", workspaces=workspaces)
    precision = TracedPrecision(plan.config.precision, "cpu")
    kernels = CudaKernels(tracer, plan.gpu, precision.policy)
    with ExitStack() as modes:
        modes.enter_context(_fake_ranks(plan.config.gpus or 1))
        mesh = DeviceMesh.from_group(dist.group.WORLD, "cpu")  # type: ignore[arg-type]  # made of tensors itself
        modes.enter_context(mock.patch.object(DeviceMesh, "from_group", return_value=mesh))
        modes.enter_context(tracer.dividing())
        together = several(plan.config, torch.device("cpu"))
        modes.enter_context(kernels)
        modes.enter_context(tracer)
        _RealPlayer(plan, batch, recording, tracer, precision, kernels, together).train(accumulates, None)
        tracer.forget()
    return recording


_TECHNIQUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "kept": {"reshard_after_forward": False},
    "unclipped": {"max_grad_norm": 0.0},
    "16-bit weights": {"weights": "bf16", "precision": "bf16"},
    "autocast": {"precision": "bf16"},
    "adapters": {"lora_rank": 4},
    "adapters, 16 bits": {"lora_rank": 4, "weights": "bf16", "precision": "bf16"},
    "checkpointing": {"gradient_checkpointing": "on"},
    "lists": {"optimizer_implementation": "foreach"},
    "offloading": {"activation_offloading": True},
}


_QUICK = {("bert", "plain", True), ("gpt2", "kept", False), ("llama", "adapters, 16 bits", True)}
_CASES = [
    pytest.param(*case, marks=() if case in _QUICK else pytest.mark.slow)
    for case in product(("bert", "gpt2", "llama"), _TECHNIQUES, (False, True))
]


@pytest.mark.parametrize(("kind", "technique", "accumulates"), _CASES)
def test_on_meta_as_on_real_tensors(tmp_path: Path, kind: str, technique: str, accumulates: bool) -> None:
    torch.set_num_threads(1)
    plan = _plan(tmp_path, kind, **_TECHNIQUES[technique])
    batch = BatchShape(2, 32, False, plan.config.target_tokens)
    told = record_step(plan, batch, accumulates=accumulates)
    real = _record_on_cpu(plan, batch, accumulates=accumulates)
    assert told.events == real.events
    assert told.sizes == real.sizes
    assert told.streams == real.streams
    assert told.categories == real.categories
    assert told.marks == real.marks
    assert set(told.streams.values()) == {1, 2}  # what is gathered, and what gradients are added up in


def test_every_byte_that_is_sent_is_counted(tmp_path: Path) -> None:
    """Two layers and what is outside of them: gathered again for backward, but for the latter."""
    plan = _plan(tmp_path, "llama")
    padded = [  # each weight in parts of equal size
        (name, -(-parameter.size(0) // WORLD) * WORLD * parameter[0].numel() * 4)
        for name, parameter in plan.model.named_parameters()
    ]
    whole = sum(size for _, size in padded)
    layers = sum(size for name, size in padded if ".layers." in name)
    works = []
    for accumulates in (False, True):
        work = Work()
        record_step(plan, BatchShape(2, 32, False, 0), accumulates=accumulates, work=work)
        works.append(work)
    for work in works:
        assert (work.gathers, work.gathered_bytes) == (5, whole + layers)
        assert (work.forward_gathers, work.forward_gathered_bytes) == (3, whole)
        assert (work.scatters, work.scattered_bytes) == (3, whole)
        assert work.first_gathered_bytes == work.last_scattered_bytes == whole - layers
        assert work.reductions == 1  # of the norm
    assert works[0].flops == works[1].flops


def test_the_model_is_whole_again_and_so_is_the_process(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "bert")
    before = [(name, type(module), dict(vars(module))) for name, module in plan.model.named_modules()]
    weights, hook = [id(parameter) for parameter in plan.model.parameters()], sys.excepthook
    batch = BatchShape(2, 32, False, 0)
    first = record_step(plan, batch)
    assert [id(parameter) for parameter in plan.model.parameters()] == weights
    for (name, module), (name_before, kind, held) in zip(plan.model.named_modules(), before, strict=True):
        assert (name, type(module), vars(module).keys()) == (name_before, kind, held.keys())
    assert not dist.is_initialized()
    assert not hasattr(torch, "meta")
    assert sys.excepthook is hook
    assert "resize_" not in vars(torch.UntypedStorage)
    assert record_step(plan, batch) == first


def test_other_batches_are_told_from_two(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "gpt2")
    traces = Traces(plan)
    for accumulates in (False, True):
        traces.expect([BatchShape(n, 32, False, 0) for n in (2, 7)], [], accumulates=accumulates)
        script = traces.step(BatchShape(7, 32, False, 0), accumulates=accumulates)
        assert script.sizes == record_step(plan, BatchShape(7, 32, False, 0), accumulates=accumulates).sizes


def _forecast(folder: Path, **knobs: Any) -> Forecast:
    (folder / "config.json").write_text(json.dumps(FIVE["llama"]))
    usual = {"task": "causal-lm", "seq_len": 64, "batch_size": 2, "samples": 48, "gpus": 2, "parallel": "fsdp"}
    return Forecaster(Hub()).forecast(RunConfig(model=str(folder), **{**usual, **knobs}), find("a100-40gb"))


@pytest.mark.slow
def test_more_gpus_and_giving_weights_up_take_less_and_whole_gradients_more(tmp_path: Path) -> None:
    base = _forecast(tmp_path)
    assert _forecast(tmp_path, gpus=4).peak_allocated < base.peak_allocated
    assert _forecast(tmp_path, reshard_after_forward=False).peak_allocated > base.peak_allocated
    assert _forecast(tmp_path, gradient_accumulation_steps=3).peak_allocated > base.peak_allocated
    assert not any("by rule" in note for note in base.notes)


def test_evaluations_leave_nothing_behind(tmp_path: Path) -> None:
    """One after every update, or none: what they gather is given up."""
    plan = _plan(tmp_path, "llama")
    traces = Traces(plan)
    batch = BatchShape(2, 32, False, 0)
    traces.expect([batch], [batch], accumulates=False)
    held = []
    for evaluates in (False, True):
        allocator = CachingAllocator()
        player = Player(allocator, partial(traces.step, accumulates=False), traces.scoring)
        window, scored = Act(Kind.WINDOW, ((batch, 1),)), Act(Kind.EVALUATION, ((batch, 2),))
        player.run([window, *([scored] if evaluates else []), window, window])
        held.append(allocator.allocated)
    assert held[0] == held[1]


def test_windows_of_one_micro_step_among_longer_ones(tmp_path: Path) -> None:
    """An epoch's last window adds its gradients up at once, and leaves what every other one does."""
    traces = Traces(_plan(tmp_path, "llama"))
    batch = BatchShape(2, 32, False, 0)
    traces.expect([batch], [], accumulates=True)
    long, short = Act(Kind.WINDOW, ((batch, 3),)), Act(Kind.WINDOW, ((batch, 1),))
    held = []
    for times in (1, 4):
        allocator = CachingAllocator()
        acts = [long, *[short, long] * times]
        Player(allocator, partial(traces.step, accumulates=True), traces.scoring).run(acts)
        held.append(allocator.allocated)
    assert abs(held[1] - held[0]) < 4096  # sums of losses, no gradients


@pytest.mark.parametrize(
    "knobs",
    [pytest.param({}, marks=pytest.mark.slow), {"gradient_accumulation_steps": 3, "reshard_after_forward": False}],
)
def test_where_fsdp_cannot_be_traced_a_rule_is_near_and_says_so(
    knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(model="bert-base-uncased", gpus=8, parallel="fsdp", batch_size=8, samples=512, **knobs)
    traced = Forecaster().forecast(config, find("a100-40gb"))
    monkeypatch.setattr(fsdp_private, "_NEEDED", (("torch.distributed.fsdp", "gone"),))
    told = Forecaster().forecast(config, find("a100-40gb"))
    assert any("this PyTorch has no torch.distributed.fsdp.gone" in note for note in told.notes)
    assert told.peak_reserved == pytest.approx(traced.peak_reserved, rel=0.15)


def test_a_rank_forecasts_by_rule_as_it_has_a_group_already(tmp_path: Path) -> None:
    with _fake_ranks(2):
        told = _forecast(tmp_path)
    assert any("this process is a rank itself" in note for note in told.notes)


def test_this_pytorch_has_all_private_parts() -> None:
    """Where one is gone, forecasts of FSDP go by rule: look at fsdp_private.py then."""
    assert fsdp_private.missing() is None
