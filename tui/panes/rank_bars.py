"""Several ranks' memory, a bar each, the fullest first."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.neighbours import used_by
from engine.contract.numbers import mib
from engine.contract.records import Memory, Outcome
from tui.drawing.cells import Line, ends, join, pad, width_of
from tui.panes.memory_bar import MemoryPart, bar_of, legend, parts_of
from tui.state.ranks import RankView
from tui.state.run_view import RunView
from tui.state.state import State

PLOT_ROWS = 3
"""Rows below which there is no history beside the bars."""
_LEAST_BAR = 16
_TOTAL_FROM = 80
"""Columns from which each bar says how much its card has."""


def rank_bars(state: State, run: RunView, width: int, height: int) -> list[Line]:
    """A line for each rank, or for the fullest few and one for the rest; what the colours mean where there is room."""
    ranks = run.ranks.in_order
    n_shown = len(ranks) if len(ranks) <= height else max(1, height - 1)
    shown = ranks[:n_shown]
    if state.rank is not None and state.rank not in shown:
        shown = [*shown[:-1], state.rank]
    name_width = len(str(len(ranks) - 1)) + 3
    numbers = [_numbers(rank.memory, width >= _TOTAL_FROM) for rank in shown]
    room = max(map(width_of, numbers), default=0)
    bar_width = width - name_width - room - 2
    lines = []
    for at, rank in enumerate(shown):
        name = pad([_name(state, run, rank)], name_width)
        number = pad(numbers[at], room)
        bar = pad(_bar(state, run, rank, bar_width, labels=at == 0), bar_width) if bar_width >= _LEAST_BAR else []
        lines.append(ends([*name, *bar], [*number, (" ", "text")], width))
    rest = [rank for rank in ranks if rank not in shown]
    if rest and height > n_shown:
        lines.append([(f" {_rest(rest)}", "muted")])
    if height - len(lines) > (0 if height < len(lines) + 1 + PLOT_ROWS else PLOT_ROWS):
        lines += legend(_parts(state, run, shown[0]), width - 2)
    return lines


def _name(state: State, run: RunView, rank: RankView) -> tuple[str, str]:
    mark = "▸" if rank is state.rank else " "
    failed = run.record is not None and run.record.failed_rank == rank.rank
    return f"{mark}r{rank.rank} ", "bad" if failed else "chosen" if rank is state.rank else "muted"


def _numbers(memory: Memory, with_total: bool) -> Line:
    now: Line = [(f"{mib(memory.used):>5}", "memory"), (" ▲", "muted"), (f"{mib(memory.peak_used):<5}", "value")]
    return [*now, (" of ", "muted"), (f"{mib(memory.total):<5}", "muted")] if with_total else now


def _parts(state: State, run: RunView, rank: RankView) -> list[MemoryPart]:
    """What is in it; when the run is over, how full it was."""
    if not run.under_way:
        return [MemoryPart("peak", "ghost", rank.memory.peak_used, "░")] if rank.memory.peak_used else []
    return parts_of(rank.memory, _others(state, rank))


def _bar(state: State, run: RunView, rank: RankView, width: int, *, labels: bool) -> Line:
    each = state.expected_by_rank
    expected = each[rank.rank] if rank.rank < len(each) else state.expected
    return bar_of(rank.memory, _parts(state, run, rank), width, expected, labels=labels)


def _others(state: State, rank: RankView) -> int:
    """Bytes of other processes on its card, where that is the one whose neighbours are known."""
    there = state.neighbours
    if there is None or rank.info is None or there.device.uuid is None or there.device.uuid != rank.info.device.uuid:
        return 0
    return used_by(there.processes)


def _rest(ranks: Sequence[RankView]) -> str:
    """`4 more, none above 5210 MiB`."""
    peaks = [rank.memory.peak_used for rank in ranks]
    known = [peak for peak in peaks if peak is not None]
    return f"{len(ranks)} more" + (f", none above {mib(max(known))} MiB" if len(known) == len(peaks) else "")


def rank_headline(state: State, run: RunView, rank: RankView) -> list[Line]:
    """Which rank the figures beside the title are of, and they, the longest way first."""
    memory = rank.memory
    which: Line = [(f"r{rank.rank}" if rank is state.rank else f"fullest r{rank.rank}", "accent")]
    dead = run.outcome is Outcome.OUT_OF_MEMORY
    peak: Line = [("peak ▲ ", "muted"), (mib(memory.peak_used), "bad" if dead else "value")]
    total: Line = [(" of ", "muted"), (mib(memory.total), "value")]
    if dead:
        rank_id = run.as_record().failed_rank
        where = "" if rank_id is None else f" on r{rank_id}"
        return [
            join([[(f"out of memory{where}", "bad")], which, peak + total], " · "),
            join([which, peak + total], " · "),
        ]
    if not run.under_way:
        return [join([which, peak + total], " · ")]
    parts: list[Line] = [
        [("used ", "muted"), (mib(memory.used), "memory")],
        [("reserved ", "muted"), (mib(memory.reserved), "cached")],
        [("allocated ", "muted"), (mib(memory.allocated), "allocated")],
    ]
    ways = [[which, *parts, peak + total], [which, parts[0], peak + total], [which, peak + total]]
    return [join(way, " · ") for way in ways]
