"""The catalogue of GPUs: find one by the name a person types or by the name NVML gives. Standard library only."""

from __future__ import annotations

import difflib
import re

from engine.gpus.gpu import Gpu
from engine.gpus.rows import ROWS

__all__ = ["GPUS", "Gpu", "UnknownGpuError", "by_nvml_name", "find", "sixteen_bits"]

GPUS: dict[str, Gpu] = {gpu.key: gpu for gpu in ROWS}
"""Every card by its key, in the order of the catalogue."""

_SAME_CARD = 0.08
"""NVML's totals of one card differ by up to this share between drivers and with ECC; cards that share a name differ by
20 % and more (RTX 3080 with 10 and 12 GB)."""


class UnknownGpuError(ValueError):
    """A name that no card, or more than one, answers to; the message suggests keys, of which `nearest` is the first."""

    def __init__(self, message: str, nearest: str) -> None:
        super().__init__(message)
        self.nearest = nearest


def find(name: str) -> Gpu:
    """The card that a person means: a key, NVML's name, or enough of either; case, spaces and vendor do not matter.

    Raises `UnknownGpuError`.
    """
    wanted = _plain(name)
    if wanted in _NAMES:
        return _NAMES[wanted]
    matching = list(dict.fromkeys(gpu.key for plain, gpu in _NAMES.items() if wanted and wanted in plain))
    matching = [key for key in matching if not GPUS[key].slice_of] or matching  # a whole card goes before its slices
    if len(matching) == 1:
        return GPUS[matching[0]]
    shown = name if len(name) <= 40 else name[:39] + "…"
    if matching:
        raise UnknownGpuError(
            f"GPU {shown!r} is more than one card of the catalogue: use {_either(matching)}.", matching[0]
        )
    close = difflib.get_close_matches(wanted, _NAMES, n=5, cutoff=0.5)
    close.sort(key=lambda plain: abs(_number(plain) - _number(wanted)))  # an RTX 3050 is like a 3060, not a 3090
    keys = list(dict.fromkeys(_NAMES[plain].key for plain in close))[:3]
    keys = keys or [key for key, gpu in GPUS.items() if not gpu.slice_of]
    asked = "did you mean" if close else "it has"
    message = f"GPU {shown!r} is not in the catalogue: {asked} {_either(keys)}{'?' if close else '.'}"
    raise UnknownGpuError(message, keys[0] if close else "")


def by_nvml_name(name: str, memory_total: int) -> Gpu | None:
    """The row of a card that is there, by NVML's name and total memory in bytes; None when it has none.

    The memory tells cards apart that share a name.
    """
    gpu = _NAMES.get(_plain(name))
    if gpu is None or abs(memory_total - gpu.memory_total) > _SAME_CARD * gpu.memory_total:
        return None
    return gpu


def sixteen_bits(name: str) -> str:
    """The 16-bit precision to advise for the card that NVML calls so: bf16 where it has it, else fp16.

    fp16 also for a card that the catalogue does not know: it works everywhere.
    """
    gpu = _NAMES.get(_plain(name))
    return "bf16" if gpu is not None and gpu.supports("bf16") else "fp16"


def _plain(name: str) -> str:
    """A name without case, punctuation and the words that say nothing: `NVIDIA GeForce RTX 4090` is `rtx4090`."""
    return "".join(re.findall(r"[a-z0-9]+", re.sub(r"nvidia|geforce|tesla|quadro|generation", " ", name.lower())))


def _number(plain: str) -> int:
    """The largest number in a name: what cards of a kind are told apart by."""
    return max(map(int, re.findall(r"\d{1,6}", plain)), default=0)


def _either(keys: list[str]) -> str:
    *most, last = keys
    return f"{', '.join(most)} or {last}" if most else last


_NAMES: dict[str, Gpu] = {_plain(name): gpu for gpu in ROWS for name in (gpu.key, gpu.name, *gpu.also)}
