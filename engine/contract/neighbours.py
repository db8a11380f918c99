"""Who else computes on a card, in words. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.cards import CardProcess
from engine.contract.numbers import mib

_NAMED = 3


def who(processes: Sequence[CardProcess]) -> str:
    """`anna's process 4242 (30,000 MiB), process 17 (–) and 2 more`, the largest first."""
    ordered = sorted(processes, key=lambda process: -(process.memory_used or 0))
    names = [_named(process) for process in ordered[:_NAMED]]
    if more := len(ordered) - len(names):
        names.append(f"{more} more")
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "nobody"


def _named(process: CardProcess) -> str:
    whose = "your" if process.mine else f"{process.user}'s" if process.user else ""
    return f"{whose} process {process.pid} ({mib(process.memory_used)} MiB)".lstrip()


def used_by(processes: Sequence[CardProcess]) -> int:
    """Bytes that they have there, as far as that is known."""
    return sum(process.memory_used or 0 for process in processes)
