"""Weights, gradients and states divided among the ranks, gathered layer by layer as they are needed: FSDP2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.techniques import gradients
from engine.techniques.parallel import private
from engine.techniques.parallel.several import Several, refuse_several_types
from engine.techniques.parallel.sharding import Visit, grouped_weights, leave_parts, shard
from engine.techniques.parallel.together import Waits
from engine.techniques.preloading import Batch
from engine.tracing.own_part import own_part


class Fsdp(Several):
    """Every rank holds its part, and gathers the rest for the layer that is computed."""

    divides_weights = divides_states = True

    def divide(
        self, model: torch.nn.Module, config: RunConfig, batch: Batch, device: torch.device, visit: Visit
    ) -> None:
        _refuse_several_types(model, config)
        shard(model, config, DeviceMesh.from_group(self._group, device.type), visit)

    def wrap(self, model: torch.nn.Module, config: RunConfig, waits: Waits) -> torch.nn.Module:
        super().wrap(model, config, waits)
        device = next(own_part(parameter).device for parameter in model.parameters())
        if not private.tell_waits(model, waits, device):
            self.note = private.UNKNOWN
        return model

    def window(self, model: torch.nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        return _syncing(model, is_last)

    def scored(self, model: torch.nn.Module) -> None:
        leave_parts(model)

    def clip(self, optimizer: Optimizer, max_norm: float, *, in_step: bool) -> torch.Tensor:
        """The norm is that of all parts; each rank scales its own."""
        mine = [own_part(p.grad) for p in gradients.parameters(optimizer) if p.grad is not None]
        squares = torch.nn.utils.get_total_norm(mine).float().square()
        self._waits(True)
        dist.all_reduce(squares, group=self._group)
        self._waits(False)
        norm = squares.sqrt()
        if mine and not (in_step and gradients.scaled_in_step(optimizer, norm, max_norm)):
            torch._foreach_mul_(mine, (max_norm / (norm + 1e-6)).clamp(max=1.0).to(mine[0].dtype))
        return norm


def _refuse_several_types(model: torch.nn.Module, config: RunConfig) -> None:
    """Raise `ConfigError` where gradients that are sent at once would be of several types."""
    for part in grouped_weights(model):
        refuse_several_types(part, config, "sends the gradients of a layer at once")


@contextmanager
def _syncing(model: torch.nn.Module, is_last: bool) -> Iterator[None]:
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(is_last)
    yield
