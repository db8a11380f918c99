"""Which processes this one has started, directly or not, by the kernel's files. Linux only; elsewhere none is known."""

from __future__ import annotations

import os
from pathlib import Path

from engine.process.machine import number_of, text_of

_FARTHEST = 64


def is_descendant(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process was started by this one, or by one that was."""
    for _ in range(_FARTHEST):
        # after the name, which may hold anything: state is field 3, the parent's number field 4 (proc(5))
        values = (text_of(proc / str(pid) / "stat") or "").rpartition(")")[2].split()
        parent = number_of(values[1]) if len(values) > 1 else None
        if not parent:
            return False
        if parent == os.getpid():
            return True
        pid = parent
    return False
