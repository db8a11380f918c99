"""Everything known about the ranks of a run on several GPUs."""

from __future__ import annotations

from engine.contract.numbers import mib, number, percent, rate
from engine.contract.records import GpuSample
from tui.drawing.text import clean
from tui.screens.details import DetailsScreen
from tui.state.ranks import RankView, seconds_of
from tui.state.run_view import RunView
from tui.state.state import State

_LABEL = 10
"""Cells of what a line is about."""
_PHASES = ("data", "forward", "backward", "optimizer", "waiting")


def ranks_screen(state: State, run: RunView) -> DetailsScreen:
    """The chosen rank, or all of them: card, process, memory, time, where it stands, its log."""
    ranks = [state.rank] if state.rank is not None else run.ranks.each
    lines: list[str] = []
    for rank in ranks:
        lines += [*([""] if lines else []), *_rank(state, rank, run.under_way)]
    way = f"{len(run.ranks)} × {run.config.parallel}, effective batch {run.config.effective_batch_size:,}"
    return DetailsScreen(f"Run {run.run_id}: {way}", lines, wide=True)


def _rank(state: State, rank: RankView, under_way: bool) -> list[str]:
    info, beat = rank.info, rank.beat
    told = {f"rank {rank.rank}": "its process is not known"}
    if info is not None:
        device = info.device
        number_of = f"   {device.numbers}" if device.numbers else ""
        kind = " · virtual" if device.is_virtual else ""
        told[f"rank {rank.rank}"] = f"{device.name}{kind}{number_of}   process {info.pid} on {info.host}"
        if device.uuid:
            told["card"] = device.uuid
    told["MiB"] = _memory(state, rank)
    if rank.timed_updates:
        told["time"] = _time(rank)
    if rank.gpu is not None:
        told["busy"] = _busy(rank.gpu)
    if under_way and beat is not None:
        told["now"] = f"{beat.phase.noun} of update {beat.update:,} for {beat.since_s:.0f} s"
    if info is not None and info.log_path is not None:
        told["log"] = clean(info.log_path, 400)
    return [f"{name:<{_LABEL}}{text}" for name, text in told.items()]


def _memory(state: State, rank: RankView) -> str:
    memory, each = rank.memory, state.expected_by_rank
    expected = each[rank.rank] if rank.rank < len(each) else state.expected
    told = [f"used {mib(memory.used)}", f"reserved {mib(memory.reserved)}", f"allocated {mib(memory.allocated)}"]
    told.append(f"peak {mib(memory.peak_used)} of {mib(memory.total)}")
    return "   ".join([*told, *([f"forecast {mib(expected)}"] if expected is not None else [])])


def _time(rank: RankView) -> str:
    whole = seconds_of(rank.shares)
    shares = (f"{name} {percent(100 * getattr(rank.shares, name) / whole)}" for name in _PHASES) if whole else ()
    return f"{', '.join(shares)} of {rate(1000 * whole / rank.timed_updates)} ms an update"


def _busy(gpu: GpuSample) -> str:
    if gpu.lost:
        return "it does not answer"
    told = (("gpu ", gpu.utilization, "%"), ("mem ", gpu.memory_utilization, "%"), ("", gpu.power, "W"))
    more = (("", gpu.temperature, "°C"), ("", gpu.sm_clock, "MHz"))
    return "   ".join(f"{name}{number(value, 0, unit)}" for name, value, unit in (*told, *more))
