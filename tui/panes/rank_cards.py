"""Several ranks' cards: how busy each is, a line each or two beside each other."""

from __future__ import annotations

from engine.contract.numbers import number
from tui.drawing.cells import Line, first_that_fits, join, pad
from tui.state.ranks import RankView
from tui.state.run_view import RunView
from tui.state.state import State

PLOT_ROWS = 2
"""Rows that the history keeps, where two cards in a line leave it them."""
_NARROWEST = 19
"""Columns of a card's figures, at least."""


def are_read(run: RunView | None) -> bool:
    """Whether there are several ranks whose cards are read: virtual ones have none."""
    return run is not None and any(rank.gpu is not None for rank in run.ranks.each)


def card_lines(state: State, run: RunView, width: int, height: int) -> list[Line]:
    """The cards in the order of the ranks; where there is no room for all, those around the chosen one."""
    ranks = run.ranks.each
    per_line = 1
    while per_line < 4 and len(ranks) > per_line * (height - PLOT_ROWS) and width >= (per_line + 1) * _NARROWEST:
        per_line += 1
    room = width // per_line
    cells = [_figures(state, rank, room - 1) for rank in ranks]
    rows = (len(cells) + per_line - 1) // per_line
    lines = [join([pad(cell, room) for cell in cells[row::rows]], "") for row in range(rows)]
    at = state.rank.rank % rows if state.rank is not None else 0
    first = max(0, min(at, rows - height))
    return lines[first : first + height]


def in_a_row(run: RunView, width: int) -> Line:
    """The utilization of all cards and nothing else: `97 96 12 98`."""
    shown: Line = []
    for rank in run.ranks.each:
        shown.append((f"{' ' if shown else ''}{number(_busy(rank))}", "gpu"))
    return first_that_fits([shown], width)


def _busy(rank: RankView) -> float | None:
    return rank.gpu.utilization if rank.gpu is not None else None


def _figures(state: State, rank: RankView, width: int) -> Line:
    gpu = rank.gpu
    mark = "▸" if rank is state.rank else " "
    name: Line = [(f"{mark}r{rank.rank} ", "chosen" if rank is state.rank else "muted")]
    if gpu is None or gpu.lost:
        return [*name, ("lost" if gpu is not None else "–", "bad" if gpu is not None else "muted")]
    busy: Line = [(f"{number(gpu.utilization):>3}", "gpu"), (" %", "muted")]
    memory: Line = [("mem ", "muted"), (f"{number(gpu.memory_utilization):>3}", "value")]
    power: Line = [(f"{number(gpu.power):>3} W", "value")]
    heat: Line = [(f"{number(gpu.temperature):>2} °C", "value")]
    clock: Line = [(f"{number(gpu.sm_clock):>5} MHz", "muted")]
    ways = [[busy, memory, power, heat, clock], [busy, memory, power, heat], [busy, power, heat], [busy, power], [busy]]
    return first_that_fits([[*name, *join(way)] for way in ways], width)
