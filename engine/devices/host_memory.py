"""The host's own memory: which errors say that it ran out, and how much was asked for."""

from __future__ import annotations

import errno
import re

from engine.gpus.units import MIB
from engine.process.machine import Machine

_TRIED = re.compile(r"you tried to allocate (\d+) bytes")  # c10/core/impl/alloc_cpu.cpp
_UNABLE = re.compile(r"Unable to allocate ([\d.]+) (bytes|[KMGTPE]iB)")  # numpy._core._exceptions._ArrayMemoryError
_UNITS = {"bytes": 1, **{f"{prefix}iB": 2 ** (10 * power) for power, prefix in enumerate("KMGTPE", start=1)}}


def ran_out(error: BaseException) -> bool:
    """True for an error of Python, numpy, PyTorch or the operating system that means that RAM did not suffice."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        # PyTorch has no class for it: DefaultCPUAllocator's words, and those of a file that cannot be mapped
        text = str(error)
        return "DefaultCPUAllocator" in text or f"Cannot allocate memory ({errno.ENOMEM})" in text
    return isinstance(error, MemoryError)


def asked(error: BaseException) -> int | None:
    """Bytes that were asked for, where the error says so."""
    text = str(error)
    if found := _TRIED.search(text):
        return int(found[1])
    if found := _UNABLE.search(text):
        return int(float(found[1]) * _UNITS[found[2]])
    return None


def described(error: BaseException) -> str:
    """`20.0 GiB were asked for, 3.1 of 7.8 GiB are free`."""
    memory, wanted = Machine().memory(), asked(error)
    if memory.available is None or memory.total is None:
        return "the memory did not suffice" if wanted is None else f"{_size(wanted)} were asked for"
    free = f"{memory.available / 2**30:,.1f} of {memory.total / 2**30:,.1f} GiB are free"
    return free if wanted is None else f"{_size(wanted)} were asked for, {free}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**29 else f"{n_bytes / MIB:,.1f} MiB"
