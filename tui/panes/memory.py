"""Device memory: what it is made of now, and its history over the run."""

from __future__ import annotations

from dataclasses import replace

from engine.contract.neighbours import used_by
from engine.contract.numbers import mib
from engine.contract.records import Memory, Outcome
from engine.gpus.units import MIB, to_mib
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.digits import large
from tui.drawing.plot import Columns
from tui.panes.base import PlotPane
from tui.panes.drawing import RunPlot
from tui.panes.memory_bar import bar_of, legend, parts_of
from tui.panes.rank_bars import PLOT_ROWS, rank_bars, rank_headline
from tui.state.answer_view import AnswerView
from tui.state.cursor import Cursor, value_at
from tui.state.ranks import RankView
from tui.state.run_view import RunView
from tui.state.state import State


class MemoryPane(PlotPane):
    """Used, reserved, allocated and peak in MiB; a bar of what they are made of; the run's history."""

    TITLE = "VRAM MiB"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._plot = RunPlot(zero=True)
        self._kv_plot = RunPlot(zero=True)

    def title(self, state: State) -> str:
        """`VRAM`, virtual or not, or `RAM` on a machine that trains on its CPU."""
        if state.device is None:
            return self.TITLE
        return f"{state.device.memory_label} MiB{' · virtual' if state.device.kind == 'virtual' else ''}"

    def headline(self, state: State, width: int) -> Line:
        """The three numbers and the peak, always labelled."""
        if state.run is not None and state.view.cursor is not None:
            return _at_cursor(state, state.run, state.view.cursor, width)
        rank = _rank(state)
        if state.run is not None and rank is not None:
            return first_that_fits(rank_headline(state, state.run, rank), width)
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
        run, rank = state.run, _rank(state)
        memory = rank.memory if rank is not None else _memory(state)
        lines: list[Line] = []
        if state.view.presenter:
            lines = large(mib(memory.peak_used), "memory", f"MiB peak of {mib(memory.total)}", width)
        if run is not None and rank is not None:
            lines += rank_bars(state, run, width, height - len(lines))
            if height - len(lines) < PLOT_ROWS:
                return lines
        else:
            lines += _one_bar(state, memory, width, with_legend=height >= 4)
        if run is None or height < 2:
            return lines
        return lines + [[(" ", "text"), *line] for line in self._history(state, run, width - 2, height - len(lines))]

    def _history(self, state: State, run: RunView, width: int, height: int) -> list[Line]:
        """Used and allocated over the run; of several ranks those of the one in front."""
        rank = _rank(state)
        total = to_mib(_memory(state).total if rank is None else rank.memory.total)
        on_cpu = run.device.kind == "cpu"
        used, allocated = _series(state, run)
        answer = run.answer
        kv = answer.kv_mib if answer is not None and answer.kv_cache else Columns()
        if on_cpu and answer is not None and len(kv):
            return self._keys_and_values(state, run, answer, width, height)
        return self._plot.lines(
            run,
            [*([(kv, "kv")] if len(kv) else []), (used, "memory"), (allocated, "allocated")],
            width,
            height,
            recent=state.view.recent,
            y_range=None if on_cpu or not total else (0.0, total * 1.02),
            limit=None if on_cpu else total,
            cursor=state.view.cursor,
        )

    def _keys_and_values(self, state: State, run: RunView, answer: AnswerView, width: int, height: int) -> list[Line]:
        """Beside the memory of a whole process they would not be seen: alone, below what they are forecast to be."""
        end = to_mib(answer.expected_kv)
        over = answer.kv_mib.extremes()
        name: Line = [("KV cache ", "kv"), (f"MiB, at most {over[1]:.1f}" if over is not None else "MiB", "muted")]
        named = [name] if height >= 4 and not run.under_way else []  # else the legend names it
        return named + self._kv_plot.lines(
            run,
            [(answer.kv_mib, "kv")],
            width,
            height - len(named),
            recent=state.view.recent,
            y_range=(0.0, max(end * 1.05, to_mib(answer.kv_cache) or 0.0)) if end else None,
            limit=end,
            cursor=state.view.cursor,
        )


def _rank(state: State) -> RankView | None:
    """The rank of several that is in front: the one that was chosen, or the fullest."""
    return state.rank or (state.run.ranks.fullest if state.run is not None else None)


def _series(state: State, run: RunView) -> tuple[Columns, Columns]:
    """What was used and allocated, in MiB."""
    of = _rank(state) or run
    return of.used_mib, of.allocated_mib


def _one_bar(state: State, memory: Memory, width: int, *, with_legend: bool) -> list[Line]:
    """The device's bar, and what its colours mean."""
    answer = state.answer if state.running else None
    kv = answer.expected_kv if answer is not None else None
    parts = parts_of(memory, _others(state), answer)
    lines: list[Line] = [[(" ", "text"), *bar_of(memory, parts, width - 2, state.expected, expected_kv=kv)]]
    if state.is_stale and memory.used is None:
        lines = [[(" not known: the GPU does not answer", "bad")]]
    return lines + (legend(parts, width - 2, kv) if with_legend else [])


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


def _at_cursor(state: State, run: RunView, cursor: Cursor, width: int) -> Line:
    """What was used and allocated where the plots are read."""
    rank = _rank(state)
    in_use, live_mib = _series(state, run)
    where: Line = [(cursor.where if rank is None else f"r{rank.rank} {cursor.where}", "accent")]
    used: Line = [("used ", "muted"), (value_at(in_use, cursor, _written, held=True), "memory")]
    on_cpu = run.device.kind == "cpu"
    live: Line = [("allocated ", "muted"), (value_at(live_mib, cursor, _written, held=True), "allocated")]
    ways = [[where, used, *([] if on_cpu else [live])], [where, used], [used]]
    return first_that_fits([join(way, " · ") for way in ways], width)


def _written(value_mib: float | None) -> str:
    return mib(None if value_mib is None else value_mib * MIB)


def _labelled(label: str, size: int | None, role: str) -> Line:
    return [(f"{label} ", "muted"), (mib(size), role)]
