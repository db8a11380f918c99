"""What `DistributedDataParallel` allocates beside its model: flat copies when it is made, then buckets of gradients.

Gradients stay tensors of their own (`gradient_as_bucket_view` is off, PyTorch's default and the Trainer's): a bucket
is a copy of them that lives as long as the run. (torch/csrc/distributed/c10d/{comm,reducer}.cpp, and `__init__`,
`_ddp_init_helper` and `_pre_forward` of torch/nn/parallel/distributed.py.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch._C._distributed_c10d import _compute_bucket_assignment_by_size

from engine.contract.forecast_types import GRADIENTS, TEMPORARIES
from engine.contract.records import Phase
from engine.forecast.recording import REBUILD, WRAP, Recording
from engine.gpus.units import MIB
from engine.techniques.parallel.ddp import USUAL_BUCKET_MIB

_BROADCAST = 250 * MIB
"""Bytes of tensors that are flattened to be sent at once: `DistributedDataParallel.broadcast_bucket_size`."""
_IN_FLIGHT = 2
"""How many of them there are at once (`broadcast_coalesced` of comm.cpp)."""
_FIRST_MIB = 1
"""Of the first bucket, so that sending begins early. Where the others are set to something else than they usually are,
it is as large as they (`_BucketCapacityConfig.create`)."""
_INT = 4
"""Bytes of an int32, in which the ranks tell each other which gradients a bucket holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Bytes by bucket, in the order in which they are sent: each once the last of its gradients is there."""

    first: list[int]
    """Of the first update."""
    later: list[int]
    """Of all others."""
    are_rebuilt: bool
    ready: list[float]
    """How much of backward is done when one of the later ones can be sent, 0 to 1."""


def buckets_of(
    trained: Sequence[torch.Tensor],
    arriving: Sequence[torch.Tensor],
    bucket_mib: int,
    progress: Sequence[float] | None = None,
) -> Buckets:
    """Those of what is `trained`; `arriving` are the same in the order in which a backward gives them gradients.

    First there is one for each type, which holds all, and then they are made anew in that order. Where some never get
    a gradient (`find_unused_parameters`), they are made once, in the reverse of the model's order. `progress` says how
    much of backward is done at each arrival; without it that is taken to be in proportion.
    """
    done = progress or [place / len(arriving) for place in range(1, len(arriving) + 1)]
    limits = [(_FIRST_MIB if bucket_mib == USUAL_BUCKET_MIB else bucket_mib) * MIB, bucket_mib * MIB]
    if len(arriving) < len(trained):
        arrives = {id(each): share for each, share in zip(arriving, done, strict=True)}
        assigned = list(reversed(_assigned(trained, limits)))
        kept = _sizes(trained, assigned)
        ready = [max(arrives.get(id(trained[index]), 0.0) for index in bucket) for bucket in assigned]
        return Buckets(first=kept, later=kept, are_rebuilt=False, ready=ready)
    assigned = _assigned(arriving, limits, in_order=True)
    return Buckets(
        first=_sizes(trained, list(reversed(_assigned(trained, [2**63 - 1])))),
        later=_sizes(arriving, assigned),
        are_rebuilt=True,
        ready=[done[max(bucket)] for bucket in assigned],
    )


def record_buckets(model: torch.nn.Module, buckets: Buckets) -> Recording:
    """The parts `WRAP` (DDP is made, once the model is on its device) and `REBUILD` (before the second forward)."""
    recording = Recording()
    n_trained = sum(parameter.requires_grad for parameter in model.parameters())
    recording.mark(WRAP, Phase.LOAD)
    _broadcast(recording, list(model.parameters()))
    first = [recording.allocate(size, GRADIENTS) for size in buckets.first]
    recording.allocate(_INT * n_trained, GRADIENTS)  # which of them were used, on this rank
    recording.mark(REBUILD, Phase.FORWARD)
    if buckets.are_rebuilt:
        # rank 0 tells the others its order, in two tensors on the device
        told = [recording.allocate(_INT * n, TEMPORARIES) for n in (n_trained + 1, len(buckets.later))]
        for handle in (*told, *first):
            if handle is not None:
                recording.free(handle)
        for size in buckets.later:
            recording.allocate(size, GRADIENTS)
    return recording


def _broadcast(recording: Recording, weights: Sequence[torch.Tensor]) -> None:
    """Every rank begins with rank 0's numbers: several tensors go as one flat copy, one alone goes as it is."""
    in_flight: list[int | None] = []
    for bucket in _assigned(weights, [_BROADCAST]):
        if len(in_flight) == _IN_FLIGHT:
            _free(recording, in_flight.pop(0))
        size = sum(weights[index].nbytes for index in bucket)
        in_flight.append(recording.allocate(size, TEMPORARIES) if len(bucket) > 1 and size else None)
    for handle in in_flight:
        _free(recording, handle)


def _free(recording: Recording, handle: int | None) -> None:
    if handle is not None:
        recording.free(handle)


def _assigned(tensors: Sequence[torch.Tensor], limits: list[int], *, in_order: bool = False) -> list[list[int]]:
    """Indices by bucket, as DDP assigns them, by type: in the order in which they are full, or in the tensors' own."""
    if not tensors:
        return []
    indices = list(range(len(tensors))) if in_order else []
    buckets, _ = _compute_bucket_assignment_by_size(list(tensors), limits, [False] * len(tensors), indices)
    return buckets


def _sizes(tensors: Sequence[torch.Tensor], buckets: list[list[int]]) -> list[int]:
    return [sum(tensors[index].nbytes for index in bucket) for bucket in buckets]
