"""One gate for what torch, transformers and datasets keep for the whole process.

The engine trains in one thread and forecasts in another. What both would set goes through here, and nowhere else: one
thread at a time, and put back as it was found. A thread that is in may go in again. Where a thread needs two of these,
it takes them in the order of this file.

A forecast beside a training must need none of what lasts for a whole run (`threads`, `tf32`, `attention_kernels`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_THREADS, _TF32, _ATTENTION, _BUILDING, _COMPILING, _RANKS, _QUIET = (threading.RLock() for _ in range(7))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Operators compute with `n` threads, in the calling thread and in those that have not computed yet."""
    import torch

    with _THREADS:
        before = torch.get_num_threads()
        if n != before:
            torch.set_num_threads(n)
        try:
            yield
        finally:
            if n != before:
                torch.set_num_threads(before)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions on CUDA may, or may not, round their inputs to TF32."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with _TF32:
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def attention_kernels(*names: str) -> Iterator[None]:
    """`scaled_dot_product_attention` takes one of these kernels (`SDPBackend`'s names), or fails."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with _ATTENTION, sdpa_kernel([getattr(SDPBackend, name) for name in names]):
        yield


@contextmanager
def building() -> Iterator[None]:
    """Around the building of a model, and around what must not see half of another thread's.

    Meanwhile transformers replaces torch's initialisers and its own `tie_weights` and `init_weights`
    (transformers/initialization.py), and sets the default dtype; whoever makes a tensor would see it. A training under
    way makes tensors and does not come by here: a forecast builds in fp32, which is the default.
    """
    with _BUILDING:
        yield


@contextmanager
def compiling(stance: str) -> Iterator[None]:
    """`torch.compile` takes this stance (`default`, or `force_eager`: what is compiled runs as it is written)."""
    import torch

    with _COMPILING, torch.compiler.set_stance(stance):
        yield


@contextmanager
def ranks() -> Iterator[None]:
    """Around the making of a process group that is there only for a trace: a process has one group of all ranks."""
    with _RANKS:
        yield


_n_quiet = 0


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars and no log lines of `datasets`. Several threads may be in: the last one out puts it back."""
    import datasets

    global _before_quiet, _n_quiet
    with _QUIET:
        if not _n_quiet:
            _before_quiet = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
            datasets.disable_progress_bars()
            datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
        _n_quiet += 1
    try:
        yield
    finally:
        with _QUIET:
            _n_quiet -= 1
            if not _n_quiet:
                were_off, verbosity = _before_quiet
                datasets.logging.set_verbosity(verbosity)
                if not were_off:
                    datasets.enable_progress_bars()


_before_quiet = (False, 0)
