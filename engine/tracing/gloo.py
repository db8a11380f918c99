"""What gloo holds for longer than NCCL, and is not to be accounted for.

A tensor that was given to a collective is freed on CUDA as soon as its owner lets go of it: NCCL's stream is waited for
by other streams, not by the host. Gloo's own thread lets go of it some time later. So it gets copies, and is waited
for: an update that is traced then frees the same in the same order as any other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._C._distributed_c10d import Work

c10d = torch.ops.c10d

COLLECTIVES = frozenset({c10d.broadcast_.default, c10d._allgather_base_.default, c10d._reduce_scatter_base_.default})
"""Those whose tensors are soon freed. DDP's buckets, which are all-reduced, live as long as the run."""


def on_copies(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As the operator, one of `COLLECTIVES`, does it, and over when it returns."""
    result, *more = args
    is_list = isinstance(result, (list, tuple))
    results = list(result) if is_list else [result]
    copies = [tensor.detach().clone() for tensor in results]
    given = [each.clone() if isinstance(each, torch.Tensor) else each for each in more]
    _, work = func(copies if is_list else copies[0], *given, **kwargs)
    Work.unbox(work).wait()
    for tensor, copy in zip(results, copies, strict=True):
        tensor.detach().copy_(copy)
    return result, work
