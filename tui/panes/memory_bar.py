"""What a device's memory is made of, as a bar and its legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.contract.forecast_types import ACTIVATIONS, GRADIENTS, KV_CACHE, OPTIMIZER, WEIGHTS
from engine.contract.numbers import fixed, mib
from engine.contract.records import Memory
from engine.gpus.units import MIB, to_mib
from tui.drawing.bars import Marker, Part, stacked_bar
from tui.drawing.categories import NAMES, ROLES
from tui.drawing.cells import Line, join, width_of
from tui.panes.drawing import labelled
from tui.state.answer_view import AnswerView

CATEGORIES = (WEIGHTS, GRADIENTS, OPTIMIZER, KV_CACHE, ACTIVATIONS)
"""Categories of allocated memory that have a colour of their own."""
KV = NAMES[KV_CACHE]


class MemoryPart(NamedTuple):
    """A part of the bar."""

    label: str
    role: str
    size: int  # in bytes
    fill: str


def parts_of(memory: Memory, others: int, answer: AnswerView | None = None) -> list[MemoryPart]:
    """Allocated by category, what the allocator keeps, what others have, and the rest: they sum to what is used.

    Where nobody tracks the categories, a run that answers tells of its weights, keys and values.
    """
    if memory.used is None:
        return []
    live = memory.by_category or {}
    if not live and answer is not None:
        live = {WEIGHTS: answer.weights, KV_CACHE: answer.kv_cache + answer.held}
    parts = [MemoryPart(NAMES.get(name, name), ROLES[name], live[name], "█") for name in CATEGORIES if live.get(name)]
    known = sum(part.size for part in parts)
    if memory.allocated is not None:
        name = "other" if known else "allocated"
        parts.append(MemoryPart(name, name, memory.allocated - known, "█"))
    if memory.reserved is not None and memory.allocated is not None:
        parts.append(MemoryPart("cached", "cached", memory.reserved - memory.allocated, "░"))
    below = memory.reserved if memory.reserved is not None else memory.allocated
    if below is None:
        name, role = ("the rest", "other") if known else ("used", "memory")
        parts.append(MemoryPart(name, role, memory.used - known, "█"))
    else:
        theirs = max(0, min(others, memory.used - below))
        parts.append(MemoryPart("context", "context", memory.used - below - theirs, "·"))
        parts.append(MemoryPart("others", "warn", theirs, "▒"))
    return [part for part in parts if part.size >= MIB or (part.label == KV and part.size > 0)]


def bar_of(
    memory: Memory,
    parts: Sequence[MemoryPart],
    width: int,
    expected: int | None,
    *,
    expected_kv: int | None = None,
    labels: bool = True,
) -> Line:
    """The parts on the scale of the device's whole memory, the peak marked (▲), and what was forecast: of all (◇), and
    where keys and values will end (┊)."""
    if not memory.total or not parts:
        return []
    markers = [Marker(memory.peak_used, len(parts) + 1, "▲")] if memory.peak_used else []
    if expected:  # the forecast, to compare with what really happened
        markers.append(Marker(min(expected, memory.total), len(parts) + 2, "◇"))
    if expected_kv:
        before = sum(part.size for part in parts[: next((i for i, p in enumerate(parts) if p.label == KV), 1)])
        markers.insert(0, Marker(min(before + expected_kv, memory.total), len(parts) + 3, "┊"))
    row = stacked_bar([Part(p.size, i, p.fill) for i, p in enumerate(parts, 1)], memory.total, width, markers)
    texts = [part.label if labels else "" for part in parts]
    return labelled(row, [*(part.role for part in parts), "limit", "ghost", "kv"], [*texts, "", "", ""])


def legend(parts: Sequence[MemoryPart], width: int, expected_kv: int | None = None) -> list[Line]:
    """What the parts are, in MiB; nothing where there is no room for all of them."""
    if len(parts) < 2:
        return []
    for with_end in (True, False):
        line = join([_entry(part, expected_kv if with_end else None) for part in parts])
        if width_of(line) <= width:
            return [[(" ", "text"), *line]]
    return []


def _entry(part: MemoryPart, expected_kv: int | None) -> Line:
    """A part of the legend; of keys and values also what they are forecast to come to."""
    if part.label != KV:
        return [(f"{part.label} ", part.role), (mib(part.size), "value")]
    end: Line = [(f" of ~{fine_mib(expected_kv)}", "muted")] if expected_kv else []
    return [(f"{part.label} ", part.role), (fine_mib(part.size), "value"), *end]


def fine_mib(size: float | None) -> str:
    """Bytes in MiB, with a decimal where there are few: keys and values of small models are less than one."""
    return mib(size) if size is None or size >= 10 * MIB else fixed(to_mib(size), 1)
