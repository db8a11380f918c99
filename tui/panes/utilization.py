"""How busy the device is."""

from __future__ import annotations

from engine.contract.host_load import BUSY_SHARE, busy_share, taken
from engine.contract.numbers import mib, number, percent
from tui.drawing.cells import Line, first_that_fits, join
from tui.panes.base import PlotPane
from tui.panes.drawing import RunPlot, at_cursor, compact
from tui.panes.rank_cards import are_read, card_lines, in_a_row
from tui.state.cursor import value_at
from tui.state.state import State


class UtilizationPane(PlotPane):
    """The GPU's utilization, power and temperature as NVML says; the host's on a machine without one."""

    TITLE = "Utilization %"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._plot = RunPlot()

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """One line where the layout gives only one."""
        if height > 1:
            return super().lines(state, width, height)
        chart = width // 3
        label = "gpu" if state.gpu is not None else "cpu"
        room = width - chart - 13
        busy = in_a_row(state.run, room) if state.run is not None and _by_card(state) else _numbers(state, room, True)
        return [compact(label, busy, self._chart(state, chart, 1), width, chart)]

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The numbers, and the history in the rows that are left."""
        lines: list[Line] = [[(" ", "text"), *_numbers(state, width - 2, False)]]
        if state.run is not None and _by_card(state):
            lines = card_lines(state, state.run, width, height)
        return lines + [[(" ", "text"), *line] for line in self._chart(state, width - 2, height - len(lines))]

    def _chart(self, state: State, width: int, height: int) -> list[Line]:
        run = state.run
        if run is None:
            return []
        rank = state.rank if are_read(run) else None
        layers, view = [((rank or run).utilization, "gpu")], state.view
        return self._plot.lines(
            run, layers, width, height, recent=view.recent, y_range=(0.0, 100.0), cursor=view.cursor
        )


def _by_card(state: State) -> bool:
    """Whether there is a line for each of several cards."""
    is_live = state.run is not None and state.run.under_way and not state.is_stale
    return is_live and are_read(state.run) and state.view.cursor is None


def _numbers(state: State, width: int, short: bool) -> Line:
    gpu, host = state.gpu, state.host
    if state.run is not None and state.view.cursor is not None:
        rank = state.rank if are_read(state.run) else None
        value = value_at((rank or state.run).utilization, state.view.cursor, number, held=True)
        return at_cursor(state.view.cursor, [(value, "gpu")], "", width)
    if state.is_stale:
        return _stale(state, width)
    if gpu is None:
        busy: Line = [(number(host.cpu), "gpu")] if short else [("cpu ", "muted"), (number(host.cpu), "gpu")]
        whose = "this process" if state.run is None or state.run.script is None else "the script"
        own: Line = [(f"{whose} ", "muted"), (percent(host.process_cpu), "value"), (" of a core", "muted")]
        process = [] if state.run is not None and state.run.ranks else [own]  # ranks are processes of their own
        share = busy_share(host.cores, host.free_cores)
        if share is not None and share >= BUSY_SHARE and not short:
            text = taken(host.cores or 0.0, host.free_cores or 0.0)
            others: Line = [(text, "warn")]
            brief: Line = [(text.replace("other programs", "others"), "warn")]
            said = [join(parts) for parts in ([busy, *process, others], [busy, others], [busy, brief])]
            return first_that_fits([*said, brief, busy], width)
        ram: Line = [("RAM ", "muted"), (f"{mib(host.memory_used)} of {mib(host.memory_total)} MiB", "value")]
        return first_that_fits([join([busy, *process, ram]), join([busy, *process]), busy], width)
    busy = [(number(gpu.utilization), "gpu")] if short else [("gpu ", "muted"), (number(gpu.utilization), "gpu")]
    memory: Line = [("mem ", "muted"), (number(gpu.memory_utilization), "value")]
    power: Line = [(number(gpu.power, 0, "W"), "value")]
    if gpu.power_limit is not None:
        power.append((f" of {number(gpu.power_limit)}", "muted"))
    heat: Line = [(number(gpu.temperature, 0, "°C"), "value")]
    clock: Line = [(number(gpu.sm_clock, 0, "MHz"), "muted")]
    ways = [[busy, memory, power, heat, clock], [busy, memory, power, heat], [busy, memory, power[:1], heat]]
    return first_that_fits([join(way) for way in [*ways, [busy, power[:1], heat], [busy]]], width)


def _stale(state: State, width: int) -> Line:
    """What is not of now is said to be so, and left out; the host's figures go on where they come."""
    if state.unread_s is not None:
        text = f"no reading for {state.unread_s:.0f} s: the driver does not answer"
        return first_that_fits([[(text, "bad")], [("no reading", "bad")]], width)
    lost: Line = [("GPU lost: it does not answer", "bad")]
    host: Line = [("cpu ", "muted"), (percent(state.host.cpu), "value")]
    return first_that_fits([join([lost, host]), join([[("GPU lost", "bad")], host]), [("GPU lost", "bad")]], width)
