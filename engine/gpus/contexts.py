"""What CUDA contexts and libraries were seen to take, and what that tells of a card where nobody has measured them.

A bare context takes 2 KiB for every thread that the card can have under way at once: that is what PyCUDA's takes on a
Titan V (pytorch/pytorch#28394), and PyTorch's within 10 MiB where CUDA loads kernels when they are first used (from
CUDA 11.7 on, `CUDA_MODULE_LOADING=LAZY`). Before, all kernels of PyTorch and of the libraries came on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.gpus.catalogue import GPUS, Gpu
from engine.gpus.units import MIB

PER_THREAD = 2048
"""Bytes of a bare context for each resident thread."""

CUDA_10, CUDA_11, LAZY = "CUDA 10", "CUDA 11 before 11.7", "CUDA 11.7 and newer"
"""What makes the difference: the kernels in PyTorch's build, and when they are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One public measurement of a context, without the 2 MiB of its first tensor."""

    card: str
    """Its key in the catalogue."""
    cuda: str
    mib: int
    source: str


SEEN: tuple[Seen, ...] = (
    Seen(card="gtx-1080", cuda=CUDA_10, mib=719, source="pytorch/pytorch#55277: PyTorch 1.8.2, cu101"),
    Seen(card="rtx-2080-ti", cuda=CUDA_10, mib=878, source="pytorch/pytorch#49877: PyTorch 1.6, cu101"),
    Seen(card="titan-v", cuda=CUDA_10, mib=1005, source="pytorch/pytorch#28394: PyTorch 1.3"),
    Seen(card="rtx-3090", cuda=CUDA_11, mib=1487, source="pytorch/pytorch#49877: PyTorch 1.7.1, cu110"),
    Seen(card="rtx-3090", cuda=CUDA_11, mib=1685, source="pytorch/pytorch#55277: PyTorch 1.8.2, cu111"),
    Seen(card="tesla-p4", cuda=CUDA_11, mib=415, source="the lecture's transcript: PyTorch 2.0, CUDA 11.4"),
    Seen(card="rtx-3090", cuda=LAZY, mib=256, source="invoke-ai/InvokeAI#9413: PyTorch 2.7.1, cu128, driver 610"),
    Seen(card="rtx-6000-ada", cuda=LAZY, mib=426, source="unslothai/unsloth-zoo#1053: PyTorch 2.10, cu130"),
    Seen(card="rtx-pro-6000", cuda=LAZY, mib=555, source="ggml-org/llama.cpp#23604"),
    Seen(card="rtx-4060-ti-16gb", cuda=LAZY, mib=107, source="ggml-org/llama.cpp#23604"),
    Seen(card="h200", cuda=LAZY, mib=527, source="measured by this project with driver 580, CUDA 13 and PyTorch 2.11"),
)

_AS_LARGE = 1.25

LIBRARIES_SEEN = (109, 240)
"""MiB of library images: the least on the lecture's P4 (CUDA 11.4), the most on an H200 (CUDA 13)."""

_NCCL_SEEN = ((2, 544), (8, 688), (4096, 1600))
"""Up to how many GPUs, and MiB of one communicator on each: two and four A100 with NVLink (NVIDIA/nccl#964), several
machines (nccl#864). It grows with the channels, of which PCIe has few (nccl#986), and has been less since connections
are made when they are first used (from NCCL 2.22 on)."""


def nccl_most(gpus: int) -> int:
    """Bytes at most that NCCL's buffers were seen to take on each of so many GPUs."""
    return next(mib for most, mib in _NCCL_SEEN if gpus <= most) * MIB


def bare_context(gpu: Gpu) -> int:
    """Bytes of a context without any kernel."""
    return PER_THREAD * gpu.threads_per_multiprocessor * gpu.multiprocessors


def context_range(gpu: Gpu, cuda: str) -> tuple[int, int]:
    """Bytes that a context takes on a card at the least and at the most, by what was seen on others under `cuda`."""
    on_top = [seen.mib * MIB - bare_context(GPUS[seen.card]) for seen in SEEN if seen.cuda == cuda]
    return max(0, bare_context(gpu) + min(on_top)), bare_context(gpu) + max(on_top)


def driver_range(gpu: Gpu) -> tuple[int, int]:
    """Bytes that the driver keeps: known of most cards; of the others at most what it keeps of one that is as large."""
    if gpu.usable_bytes is not None:
        return gpu.driver_bytes, gpu.driver_bytes
    as_large = (known for known in GPUS.values() if known.memory_total <= _AS_LARGE * gpu.memory_total)
    return 0, max((known.driver_bytes for known in as_large), default=0)
