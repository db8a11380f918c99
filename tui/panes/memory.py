"""Device memory: what it is made of now, and its history over the run."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from engine.contract.neighbours import used_by
from engine.contract.numbers import mib
from engine.contract.records import Memory, Outcome
from engine.gpus.units import MIB, to_mib
from tui.drawing.bars import Marker, Part, stacked_bar
from tui.drawing.cells import Line, first_that_fits, join, width_of
from tui.drawing.digits import large
from tui.panes.base import PlotPane
from tui.panes.drawing import RunPlot, labelled
from tui.state.cursor import Cursor, value_at
from tui.state.run_view import RunView
from tui.state.state import State

CATEGORIES = ("weights", "gradients", "optimizer", "activations")
"""Categories of allocated memory that have a colour of their own."""


class MemoryPane(PlotPane):
    """Used, reserved, allocated and peak in MiB; a bar of what they are made of; the run's history."""

    TITLE = "VRAM MiB"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._plot = RunPlot(zero=True)

    def title(self, state: State) -> str:
        """`VRAM`, virtual or not, or `RAM` on a machine that trains on its CPU."""
        if state.device is None:
            return self.TITLE
        return f"{state.device.memory_label} MiB{' · virtual' if state.device.kind == 'virtual' else ''}"

    def headline(self, state: State, width: int) -> Line:
        """The three numbers and the peak, always labelled."""
        if state.run is not None and state.view.cursor is not None:
            return _at_cursor(state.run, state.view.cursor, width)
        memory = _memory(state)
        dead = state.run is not None and state.run.outcome is Outcome.OUT_OF_MEMORY
        peak: Line = [("peak ▲ ", "muted"), (mib(memory.peak_used), "bad" if dead else "value")]
        total: Line = [(" of ", "muted"), (mib(memory.total), "value")]
        used, allocated = (
            _labelled("used", memory.used, "memory"),
            _labelled("allocated", memory.allocated, "allocated"),
        )
        reserved = _labelled("reserved", memory.reserved, "cached")
        on_cpu = state.device is not None and state.device.kind == "cpu"
        parts = [used] if on_cpu else [used, reserved, allocated]
        dot = " · "
        ways = [join([*parts, peak + total], dot), join([used, peak + total], dot), join([used, total[1:]], " of ")]
        if dead:
            ways.insert(0, join([[("out of memory", "bad")], *parts, peak + total], dot))
        return first_that_fits(ways, width)

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The bar, and the history in the rows that are left."""
        memory = _memory(state)
        parts = _parts(memory, _others(state))
        lines: list[Line] = [[(" ", "text"), *_bar(memory, parts, width - 2, state.expected)]]
        if state.is_stale and memory.used is None:
            lines = [[(" not known: the GPU does not answer", "bad")]]
        if state.view.presenter:
            lines = [*large(mib(memory.peak_used), "memory", f"MiB peak of {mib(memory.total)}", width), *lines]
        if height >= 6:
            lines += _legend(parts, width - 2)
        run = state.run
        if run is None or height < 2:
            return lines
        total = to_mib(memory.total)
        on_cpu = run.device.kind == "cpu"
        layers = [(run.used_mib, "memory"), (run.allocated_mib, "allocated")]
        y_range = None if on_cpu or not total else (0.0, total * 1.02)
        limit = None if on_cpu else total
        plotted = self._plot.lines(
            run,
            layers,
            width - 2,
            height - len(lines),
            recent=state.view.recent,
            y_range=y_range,
            limit=limit,
            cursor=state.view.cursor,
        )
        return lines + [[(" ", "text"), *line] for line in plotted]


def _memory(state: State) -> Memory:
    """The device's newest reading, with the peaks of the run that is shown."""
    if state.run is None:
        return state.memory
    run = state.run.memory
    now = run if state.run.under_way else state.memory
    peaks = {"peak_used": run.peak_used, "peak_reserved": run.peak_reserved, "peak_allocated": run.peak_allocated}
    return replace(now, **peaks, by_category=now.by_category if state.run.under_way else None)


def _others(state: State) -> int:
    """Bytes of other processes on the card that is read."""
    there, device = state.neighbours, state.device
    return used_by(there.processes) if there and device and there.device.uuid == device.uuid else 0


def _at_cursor(run: RunView, cursor: Cursor, width: int) -> Line:
    """What was used and allocated where the plots are read."""
    where: Line = [(cursor.where, "accent")]
    used: Line = [("used ", "muted"), (value_at(run.used_mib, cursor, _written, held=True), "memory")]
    on_cpu = run.device.kind == "cpu"
    live: Line = [("allocated ", "muted"), (value_at(run.allocated_mib, cursor, _written, held=True), "allocated")]
    ways = [[where, used, *([] if on_cpu else [live])], [where, used], [used]]
    return first_that_fits([join(way, " · ") for way in ways], width)


def _written(value_mib: float | None) -> str:
    return mib(None if value_mib is None else value_mib * MIB)


def _labelled(label: str, size: int | None, role: str) -> Line:
    return [(f"{label} ", "muted"), (mib(size), role)]


class _Part(NamedTuple):
    label: str
    role: str
    size: int  # in bytes
    fill: str


def _parts(memory: Memory, others: int) -> list[_Part]:
    """Allocated by category, what the allocator keeps, what others have, and the rest: they sum to what is used."""
    if memory.used is None:
        return []
    live = memory.by_category or {}
    parts = [_Part(name, name, live[name], "█") for name in CATEGORIES if live.get(name)]
    known = sum(part.size for part in parts)
    if memory.allocated is not None:
        name = "other" if known else "allocated"
        parts.append(_Part(name, name, memory.allocated - known, "█"))
    if memory.reserved is not None and memory.allocated is not None:
        parts.append(_Part("cached", "cached", memory.reserved - memory.allocated, "░"))
    below = memory.reserved if memory.reserved is not None else memory.allocated
    if below is None:
        parts.append(_Part("used", "memory", memory.used, "█"))
    else:
        theirs = max(0, min(others, memory.used - below))
        parts.append(_Part("context", "context", memory.used - below - theirs, "·"))
        parts.append(_Part("others", "warn", theirs, "▒"))
    return [part for part in parts if part.size >= MIB]


def _bar(memory: Memory, parts: list[_Part], width: int, expected: int | None) -> Line:
    """The parts on the scale of the device's whole memory, the peak marked."""
    if not memory.total or not parts:
        return []
    markers = [Marker(memory.peak_used, len(parts) + 1, "▲")] if memory.peak_used else []
    if expected:  # the forecast, to compare with what really happened
        markers.append(Marker(min(expected, memory.total), len(parts) + 2, "◇"))
    row = stacked_bar([Part(p.size, i, p.fill) for i, p in enumerate(parts, 1)], memory.total, width, markers)
    return labelled(row, [*(part.role for part in parts), "limit", "ghost"], [*(part.label for part in parts), "", ""])


def _legend(parts: list[_Part], width: int) -> list[Line]:
    """What the parts are, in MiB; nothing where there is no room for all of them."""
    line = join([[(f"{part.label} ", part.role), (mib(part.size), "value")] for part in parts])
    return [[(" ", "text"), *line]] if len(parts) > 1 and width_of(line) <= width else []
