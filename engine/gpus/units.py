"""Units shared by the engine and the screen. MiB = 2^20 bytes everywhere, as NVML and the lecture count."""

from __future__ import annotations

MIB = 2**20


def to_mib(n_bytes: float | None) -> float | None:
    """Bytes as MiB; None stays None (unknown is never 0)."""
    return None if n_bytes is None else n_bytes / MIB
