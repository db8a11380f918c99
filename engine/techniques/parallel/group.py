"""The process group of a run on several GPUs, by PyTorch's own means.

Who starts the processes sets what `env://` reads: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

TIMEOUT_S = 7 * 86_400.0
"""Of a collective. Who waits longest for another is not who is at fault, so nothing is to end by it: heartbeats tell
which rank is gone, or stands still."""


@contextmanager
def opened(device: torch.device, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Join the group, and leave it. Tensors on CUDA go by NCCL; numbers on the host, and virtual GPUs, by gloo.

    `device` is this rank's own: on CUDA it is set before anything else, so that no context is made on another card.
    """
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_cuda else "gloo",
        timeout=timedelta(seconds=timeout_s),
        device_id=device if on_cuda else None,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
