"""What a device's memory is made of, as a bar and its legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.contract.numbers import mib
from engine.contract.records import Memory
from engine.gpus.units import MIB
from tui.drawing.bars import Marker, Part, stacked_bar
from tui.drawing.cells import Line, join, width_of
from tui.panes.drawing import labelled

CATEGORIES = ("weights", "gradients", "optimizer", "activations")
"""Categories of allocated memory that have a colour of their own."""


class MemoryPart(NamedTuple):
    """A part of the bar."""

    label: str
    role: str
    size: int  # in bytes
    fill: str


def parts_of(memory: Memory, others: int) -> list[MemoryPart]:
    """Allocated by category, what the allocator keeps, what others have, and the rest: they sum to what is used."""
    if memory.used is None:
        return []
    live = memory.by_category or {}
    parts = [MemoryPart(name, name, live[name], "█") for name in CATEGORIES if live.get(name)]
    known = sum(part.size for part in parts)
    if memory.allocated is not None:
        name = "other" if known else "allocated"
        parts.append(MemoryPart(name, name, memory.allocated - known, "█"))
    if memory.reserved is not None and memory.allocated is not None:
        parts.append(MemoryPart("cached", "cached", memory.reserved - memory.allocated, "░"))
    below = memory.reserved if memory.reserved is not None else memory.allocated
    if below is None:
        parts.append(MemoryPart("used", "memory", memory.used, "█"))
    else:
        theirs = max(0, min(others, memory.used - below))
        parts.append(MemoryPart("context", "context", memory.used - below - theirs, "·"))
        parts.append(MemoryPart("others", "warn", theirs, "▒"))
    return [part for part in parts if part.size >= MIB]


def bar_of(
    memory: Memory, parts: Sequence[MemoryPart], width: int, expected: int | None, *, labels: bool = True
) -> Line:
    """The parts on the scale of the device's whole memory, the peak marked (▲), and what was forecast (◇)."""
    if not memory.total or not parts:
        return []
    markers = [Marker(memory.peak_used, len(parts) + 1, "▲")] if memory.peak_used else []
    if expected:  # the forecast, to compare with what really happened
        markers.append(Marker(min(expected, memory.total), len(parts) + 2, "◇"))
    row = stacked_bar([Part(p.size, i, p.fill) for i, p in enumerate(parts, 1)], memory.total, width, markers)
    texts = [part.label if labels else "" for part in parts]
    return labelled(row, [*(part.role for part in parts), "limit", "ghost"], [*texts, "", ""])


def legend(parts: Sequence[MemoryPart], width: int) -> list[Line]:
    """What the parts are, in MiB; nothing where there is no room for all of them."""
    line = join([[(f"{part.label} ", part.role), (mib(part.size), "value")] for part in parts])
    return [[(" ", "text"), *line]] if len(parts) > 1 and width_of(line) <= width else []
