"""A step of a model that FSDP divides, traced on meta tensors: the same, event by event, as on real tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from engine.contract.config import RunConfig
from engine.devices.precision import TracedPrecision
from engine.forecast.prepare import build_on_meta
from engine.forecast.recording import Recording
from engine.forecast.step import StepPlan, _Player, record_step
from engine.gpus.catalogue import find
from engine.techniques.parallel.several import several
from engine.tracing.half import CpuTracer
from engine.tracing.kernels import CudaKernels
from engine.tracing.stack import CURRENT
from engine.training.hub import Hub
from engine.training.models import resolve
from engine.workloads.data_shape import BatchShape
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.forecast.five_models import FIVE, TASKS

WORLD = 3  # no weight of these models can be divided evenly
_TIED = {"gpt2"}


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


@pytest.mark.parametrize("accumulates", [False, True])
@pytest.mark.parametrize("technique", _TECHNIQUES)
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
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
