"""FSDP2: weights, gradients and optimizer states divided among ranks, layer by layer.

A layer's whole weights are there while it computes: gathered before its forward, and before its backward again where
they were given up meanwhile. What is in no layer (embeddings, also those that a head shares, and the head) is one more
group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from engine.contract.config import RunConfig
from engine.techniques.stopping import layers

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Tensors = Sequence[torch.Tensor]
Visit = Callable[[Tensors, Tensors], AbstractContextManager[None]]


def shard(
    model: torch.nn.Module,
    config: RunConfig,
    mesh: DeviceMesh,
    visit: Visit = lambda weights, buffers: nullcontext(),
) -> None:
    """Divide the weights of `model`, which may be on the host still: each group goes to the mesh's device in its turn.

    So no card has to hold all of them at once. `visit` is entered around the dividing of each group, whose whole
    weights and whose buffers are on the device by then; the buffers stay. The group without layers keeps its weights
    from forward to backward, which begins with them (`None` of `fully_shard`).
    """
    from torch.distributed.fsdp import fully_shard

    reshards = config.reshard_after_forward
    for layer in groups(model):
        with visit(*_whole(layer)):
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshards)
    with visit(*_whole(model)):
        fully_shard(model, mesh=mesh, reshard_after_forward=None if reshards else False)


def groups(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that can be gathered on their own: those that share no weight with anything outside of them."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    return [layer for layer in dict.fromkeys(layers(model)) if _is_apart(layer, owners)]


def grouped_weights(model: torch.nn.Module) -> list[list[torch.nn.Parameter]]:
    """What is gathered at once: each layer's weights, and last those that are in no layer."""
    of_layers = [list(layer.parameters()) for layer in groups(model)]
    inside = {id(parameter) for layer in of_layers for parameter in layer}
    return [*of_layers, [parameter for parameter in model.parameters() if id(parameter) not in inside]]


def _is_apart(layer: torch.nn.Module, owners: Counter[int]) -> bool:
    own = Counter(id(parameter) for module in layer.modules() for parameter in module.parameters(recurse=False))
    return bool(own) and all(owners[each] == n for each, n in own.items())


def _whole(module: torch.nn.Module) -> tuple[Tensors, Tensors]:
    """Parameters that are not divided yet and buffers that no group has, in the order in which FSDP moves them."""
    from torch.distributed.fsdp import FSDPModule

    parameters: dict[torch.Tensor, None] = {}
    buffers: dict[torch.Tensor, None] = {}

    def visit(each: torch.nn.Module) -> Iterator[torch.nn.Module]:
        for child in each.children():
            if not isinstance(child, FSDPModule):
                yield from visit(child)
        yield each

    for each in visit(module):
        parameters |= dict.fromkeys(each.parameters(recurse=False))
        buffers |= dict.fromkeys(each.buffers(recurse=False))
    return list(parameters), list(buffers)


def leave_parts(model: torch.nn.Module) -> None:
    """Have each rank hold its part alone: a forward without a backward leaves whole what is gathered first."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
