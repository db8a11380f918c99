"""What each rank holds alone, written by all of them into one folder: torch.distributed.checkpoint, as safetensors.

(Its own format describes what is there in a pickle, which reading would execute.)
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate, Shard, zeros
from torch.optim import Optimizer

from engine.contract.config import ConfigError, RunConfig
from engine.techniques import optimizer_state
from engine.training.saving.agreed import Elsewhere, why

if TYPE_CHECKING:
    from engine.training.job import Job

FOLDER = "parts"
_MODEL, _STATE = "model", "optimizer"


def check(config: RunConfig) -> None:
    """Raise `ConfigError` where this PyTorch cannot write parts so."""
    try:
        from torch.distributed.checkpoint import hf_storage

        if "save_distributed" in signature(hf_storage.HuggingFaceStorageWriter).parameters:
            return
    except ImportError:
        pass
    raise ConfigError(
        "save_steps",
        f"--save-steps with --parallel {config.parallel} needs a newer PyTorch than {torch.__version__}: use "
        "--save-steps 0 or --parallel ddp.",
    )


def write(job: Job, weights: dict[str, torch.Tensor], folder: Path) -> dict[str, Any]:
    """Write this rank's `weights`, and the optimizer's states, into `folder`: all ranks call it.

    What is no plain tensor is given back, to be kept elsewhere. Raises `Elsewhere` in all ranks where one cannot write.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    optimizer = job.together.stepping(job.optimizer)
    tensors = {f"{_MODEL}.{name}": tensor for name, tensor in weights.items()}
    others: dict[str, dict[str, Any]] = {}
    divided: dict[str, list[int | None]] = {}
    for name, states in _named(job.model, optimizer):
        for key, value in states.items():
            if type(value) not in (torch.Tensor, DTensor):
                others.setdefault(name, {})[key] = value.cpu() if isinstance(value, torch.Tensor) else value
                continue
            full = f"{_STATE}.{name}.{key}"
            tensors[full] = value
            if isinstance(value, DTensor):
                divided[full] = [each.dim if isinstance(each, Shard) else None for each in value.placements]
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder / FOLDER), save_distributed=True))
    except CheckpointException as error:  # no `Exception`: it would end the rank
        rank, (first, _) = min(error.failures.items())
        raise Elsewhere(f"rank {rank}: {why(first)}") from None
    groups = [{key: value for key, value in group.items() if key != "params"} for group in job.optimizer.param_groups]
    return {"groups": groups, "divided": divided, "others": others}


def read(job: Job, weights: dict[str, torch.Tensor], written: dict[str, Any], folder: Path) -> None:
    """Put back what `write` wrote, into `weights` and the job's optimizer. Raises what a damaged file makes of it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    optimizer = job.together.stepping(job.optimizer)
    reader = HuggingFaceStorageReader(str(folder / FOLDER))
    there = reader.read_metadata().state_dict_metadata
    tensors = {f"{_MODEL}.{name}": tensor for name, tensor in weights.items()}
    states: dict[int, dict[str, Any]] = {}
    for index, (name, parameter) in enumerate(_parameters(job.model, optimizer)):
        states[index] = dict(written["others"].get(name, {}))
        prefix = f"{_STATE}.{name}."
        for full in (each for each in there if each.startswith(prefix) and "." not in each[len(prefix) :]):
            tensors[full] = _empty(there[full], parameter, written["divided"].get(full))
            states[index][full[len(prefix) :]] = tensors[full]
    missing = tensors.keys() - there.keys()
    if missing:
        raise ValueError(f"the model has other weights: {min(missing)}")
    try:
        load(tensors, storage_reader=reader, no_dist=True)
    except CheckpointException as error:
        raise ValueError(str(error)) from None
    counted, begin = [], 0
    for group, saved in zip(optimizer.param_groups, written["groups"], strict=True):
        counted.append({**saved, "params": list(range(begin, begin + len(group["params"])))})
        begin += len(group["params"])
    held = {index: each for index, each in states.items() if each}
    optimizer_state.load(optimizer, {"state": held, "param_groups": counted})
    for group, saved in zip(job.optimizer.param_groups, written["groups"], strict=True):
        group.update(saved)


def leave_parts(model: torch.nn.Module) -> None:
    """Have each rank hold its part alone: an evaluation leaves gathered what is gathered first."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _empty(there: Any, parameter: torch.Tensor, divided: list[int | None] | None) -> torch.Tensor:
    """A tensor to read into, divided as it was."""
    dtype = there.properties.dtype
    if divided is None or not isinstance(parameter, DTensor):
        return torch.zeros(there.size, dtype=dtype, device=parameter.device)
    placements = [Replicate() if dim is None else Shard(dim) for dim in divided]
    empty: torch.Tensor = zeros(there.size, dtype=dtype, device_mesh=parameter.device_mesh, placements=placements)
    return empty


def _parameters(model: torch.nn.Module, optimizer: Optimizer) -> list[tuple[str, torch.nn.Parameter]]:
    """What an optimizer steps, in its own order, with names."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [(names[id(p)], p) for group in optimizer.param_groups for p in group["params"]]


def _named(model: torch.nn.Module, optimizer: Optimizer) -> list[tuple[str, dict[str, Any]]]:
    return [(name, optimizer.state.get(parameter, {})) for name, parameter in _parameters(model, optimizer)]
