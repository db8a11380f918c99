"""The whole weights of a model that is divided among ranks, on the host of the first."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from engine.techniques.parallel.sharding import leave_parts
from engine.training.saving.model_folder import Trained


def full_state(trained: Trained) -> dict[str, torch.Tensor] | None:
    """All weights that are written, by the model's names for them; None but in the first rank. All ranks call it.

    They come one after the other, by way of the hosts: nothing of it is on a GPU. Tied weights stay one tensor.
    """
    group = dist.group.WORLD
    assert group is not None
    leave_parts(trained.model)
    mesh = DeviceMesh.from_group(group, "cpu")
    adapter_only = trained.is_adapter and trained.source.location is not None
    is_first = mesh.get_rank() == 0
    found: dict[int, torch.Tensor | None] = {}
    state: dict[str, torch.Tensor] = {}
    for name, tensor in trained.model.state_dict(keep_vars=True).items():
        if adapter_only and not tensor.requires_grad:
            continue
        if id(tensor) not in found:
            whole = _whole(tensor.detach(), mesh)
            found[id(tensor)] = whole if is_first else None
        if (kept := found[id(tensor)]) is not None:
            state[name] = kept
    return state if is_first else None


def _whole(tensor: Any, mesh: DeviceMesh) -> torch.Tensor:
    if not isinstance(tensor, DTensor):
        whole: torch.Tensor = tensor.cpu()
        return whole
    shape, stride = tensor.size(), tensor.stride()
    here = DTensor.from_local(
        tensor.to_local().cpu(), mesh, tensor.placements, run_check=False, shape=shape, stride=stride
    )
    return here.full_tensor()
