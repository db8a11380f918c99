"""Weights, gradients and states divided among the ranks, gathered layer by layer as they are needed: FSDP2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.techniques import gradients
from engine.techniques.parallel import private
from engine.techniques.parallel.several import Several
from engine.techniques.parallel.together import Waits
from engine.techniques.preloading import Batch
from engine.techniques.stopping import layers


def shard(model: torch.nn.Module, config: RunConfig, mesh: DeviceMesh) -> None:
    """Divide a model: each layer is a group that is gathered at once, and the rest is one, which stays gathered
    between forward and backward.

    On a mesh of GPUs a model on the host goes there group by group, so that the whole never is on one.
    """
    for layer in groups_of_layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=config.reshard_after_forward)
    fully_shard(model, mesh=mesh)


def groups_of_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that can be gathered on their own: those that share no weight with anything outside of them."""
    found = list(dict.fromkeys(layers(model)))
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    return [
        layer
        for layer in found
        if (own := Counter(id(p) for module in layer.modules() for p in module.parameters(recurse=False)))
        and all(owners[each] == n for each, n in own.items())
    ]


class Fsdp(Several):
    """Every rank holds its part, and gathers the rest for the layer that is computed."""

    def divide(self, model: torch.nn.Module, config: RunConfig, batch: Batch, device: torch.device) -> None:
        shard(model, config, DeviceMesh.from_group(self._group, device.type))

    def wrap(self, model: torch.nn.Module, config: RunConfig, waits: Waits) -> torch.nn.Module:
        super().wrap(model, config, waits)
        device = next(local(parameter).device for parameter in model.parameters())
        if not private.tell_waits(model, waits, device):
            self.note = private.UNKNOWN
        return model

    def window(self, model: torch.nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        return _syncing(model, is_last)

    def clip(self, optimizer: Optimizer, max_norm: float, *, in_step: bool) -> torch.Tensor:
        """The norm is that of all parts; each rank scales its own."""
        mine = [local(p.grad) for p in gradients.parameters(optimizer) if p.grad is not None]
        squares = torch.nn.utils.get_total_norm(mine).float().square()
        self._waits(True)
        dist.all_reduce(squares, group=self._group)
        self._waits(False)
        norm = squares.sqrt()
        torch._foreach_mul_(mine, (max_norm / (norm + 1e-6)).clamp(max=1.0).to(mine[0].dtype))
        return norm


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@contextmanager
def _syncing(model: torch.nn.Module, is_last: bool) -> Iterator[None]:
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(is_last)
    yield
