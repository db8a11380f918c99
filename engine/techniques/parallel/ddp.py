"""Every rank holds the whole model, and gradients are averaged while backward goes on: DistributedDataParallel."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from engine.contract.config import RunConfig
from engine.techniques.parallel.several import Several
from engine.techniques.parallel.sharding import Visit
from engine.techniques.parallel.together import Waits
from engine.techniques.parallel.unused import leaves_out
from engine.techniques.preloading import Batch

_PARAMETERS = signature(DistributedDataParallel).parameters
_ALIKE: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers": False  # before 2.13
}
"""Buffers are not sent in every forward: none of a transformer's changes."""

USUAL_BUCKET_MIB = 25
"""What `DistributedDataParallel` takes unless told; the first bucket has 1 MiB then."""


class Ddp(Several):
    """As accelerate sets it up for the Trainer, gradients beside the buckets (`gradient_as_bucket_view` off).

    Other than there, parameters that a forward does not reach are looked for once, not in every update.
    """

    _looks_for_unused = False

    def divide(
        self, model: torch.nn.Module, config: RunConfig, batch: Batch, device: torch.device, visit: Visit
    ) -> None:
        self._looks_for_unused = not config.is_quantised and leaves_out(model, batch)

    def wrap(self, model: torch.nn.Module, config: RunConfig, waits: Waits) -> torch.nn.Module:
        super().wrap(model, config, waits)
        wrapped = DistributedDataParallel(
            model,
            # told its own usual size, DDP would make the first bucket as large as the others, and send late
            bucket_cap_mb=None if config.bucket_mib == USUAL_BUCKET_MIB else config.bucket_mib,
            **_ALIKE,
            find_unused_parameters=self._looks_for_unused,
        )
        wrapped.register_comm_hook(None, lambda state, bucket: self._all_reduced(bucket))
        return wrapped

    def window(self, model: torch.nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext() if is_last or not isinstance(model, DistributedDataParallel) else model.no_sync()

    def _all_reduced(self, bucket: Any) -> torch.futures.Future[torch.Tensor]:
        """What DDP does without a hook. After the last bucket there is nothing left to compute in backward."""
        future = allreduce_hook(self._group, bucket)
        if bucket.is_last():
            self._waits(True)
        return future
