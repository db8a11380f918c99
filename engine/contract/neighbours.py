"""Who else computes on a card, in words. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.contract.cards import CardProcess
from engine.contract.numbers import mib
from engine.contract.text import enumerated

_NAMED = 3


def who(processes: Sequence[CardProcess]) -> str:
    """`anna's process 4242 (30,000 MiB), process 17 (–) and 2 more`, the largest first."""
    ordered = sorted(processes, key=lambda process: -(process.memory_used or 0))
    names = [_named(process) for process in ordered[:_NAMED]]
    if more := len(ordered) - len(names):
        names.append(f"{more} more")
    return enumerated(names) or "nobody"


def _named(process: CardProcess) -> str:
    whose = "your" if process.mine else f"{process.user}'s" if process.user else ""
    return f"{whose} process {process.pid} ({mib(process.memory_used)} MiB)".lstrip()


def used_by(processes: Sequence[CardProcess]) -> int:
    """Bytes that they have there, as far as that is known."""
    return sum(process.memory_used or 0 for process in processes)


def joined(cards: Iterable[Sequence[CardProcess]]) -> tuple[CardProcess, ...]:
    """The processes of several cards, each once, with what it has on all of them."""
    found: dict[int, CardProcess] = {}
    for process in (process for processes in cards for process in processes):
        before = found.get(process.pid)
        if before is not None:
            memory = [size for size in (before.memory_used, process.memory_used) if size is not None]
            process = replace(before, memory_used=sum(memory) if memory else None)
        found[process.pid] = process
    return tuple(found.values())
