"""What a run on several GPUs tells, made up: for tests, and to be looked at.

    python -m tests.tui.fake_ranks 4 [--virtual] [--stands] [--dead]

shows a run on 4 GPUs in this terminal, an update every half second, of which rank 1 is the slowest; `--stands` has it
stand still from update 20 on, `--dead` be out of memory there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import Event, Forecasted, RankBeat, RanksStarted, RunFinished, Sampled, UpdateDone
from engine.contract.records import DeviceInfo, GpuSample, Memory, Outcome, Phase, RankInfo, RankShare, Shares
from tests.tui.app.test_forecast import forecast
from tests.tui.fake_session import (
    MIB,
    FakeHistory,
    FakeSession,
    memory,
    ready,
    record,
    sampled,
    started,
    training,
    update,
)

VIRTUAL = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * MIB)
SLOWEST = 1
"""The rank that the others wait for."""


def card(rank: int, *, virtual: bool = False) -> DeviceInfo:
    """The card of a rank."""
    if virtual:
        return VIRTUAL
    return DeviceInfo(
        name="Tesla P4", kind="cuda", index=rank, memory_total=7611 * MIB, uuid=f"GPU-8932f93{rank}", gpu_index=rank
    )


def config_of(n: int, *, virtual: bool = False, **values: Any) -> RunConfig:
    """What a run on `n` GPUs is asked for."""
    device = f"virtual:tesla-p4×{n}" if virtual else "cuda"
    return RunConfig(model="bert-base-uncased", gpus=n, device=device, **values)


def ranks_started(
    n: int, run_id: int = 1, *, virtual: bool = False, folder: str = "/home/ada/.cache/traintop/logs"
) -> RanksStarted:
    """`n` processes, each on its card."""
    infos = (
        RankInfo(
            rank=rank,
            device=card(rank, virtual=virtual),
            host="lab-gpu-02",
            pid=4711 + rank,
            log_path=f"{folder}/run-{run_id}-rank-{rank}.log",
        )
        for rank in range(n)
    )
    return RanksStarted(run_id=run_id, ranks=tuple(infos))


def held(rank: int) -> Memory:
    """What a rank holds: the later ones less, as of ZeRO-1."""
    return memory(7040 - 310 * rank, 6500 - 310 * rank, 6300 - 310 * rank)


def share(rank: int) -> RankShare:
    """What a rank did in an update of a second: the slowest does not wait."""
    waiting = 0.02 if rank == SLOWEST else 0.16 + 0.01 * (rank % 4)
    shares = Shares(data=0.01, forward=0.31 - waiting / 2, backward=0.61 - waiting / 2, optimizer=0.07, waiting=waiting)
    return RankShare(rank=rank, n_samples=8, n_tokens=4096, update_s=1.0, shares=shares, memory=held(rank))


def update_of(n: int, number: int = 1, run_id: int = 1, **values: Any) -> UpdateDone:
    """An update of `n` ranks."""
    ranks = tuple(share(rank) for rank in range(n))
    mean = {
        name: sum(getattr(each.shares, name) for each in ranks) / n
        for name in ("data", "forward", "backward", "optimizer", "waiting")
    }
    whole = {"n_samples": 8 * n, "n_tokens": 4096 * n, "shares": Shares(**mean), "memory": held(0), "ranks": ranks}
    return update(number, run_id, **{**whole, **values})


def sampled_of(n: int, run_id: int = 1, t: float = 5.0, *, virtual: bool = False) -> Sampled:
    """A reading of all cards; virtual ones are not read."""
    one = sampled(run_id, t, gpu=not virtual)
    if virtual:
        return one
    gpus = tuple(
        GpuSample(
            name="Tesla P4",
            utilization=97.0 - 3 * (rank % 3) - (20 if rank != SLOWEST else 0),
            memory_utilization=61.0 - rank,
            memory_used=held(rank).used,
            memory_total=7611 * MIB,
            power=72.0 - rank,
            temperature=61 + rank,
            sm_clock=1531,
        )
        for rank in range(n)
    )
    return replace(one, gpu=gpus[0], gpus=gpus)


def beat(rank: int, number: int, since_s: float, phase: Phase = Phase.FORWARD, run_id: int = 1) -> RankBeat:
    """Where a rank stands."""
    return RankBeat(run_id=run_id, rank=rank, phase=phase, update=number, since_s=since_s)


def begun(n: int, run_id: int = 1, *, virtual: bool = False, planned: int = 64) -> tuple[Event, ...]:
    """A run on `n` GPUs up to its first update."""
    return (
        started(run_id, config_of(n, virtual=virtual), card(0, virtual=virtual)),
        ranks_started(n, run_id, virtual=virtual),
        training(run_id, planned),
    )


def out_of_memory(n: int, run_id: int = 1, *, virtual: bool = False) -> RunFinished:
    """The slowest rank is out of memory."""
    message = (
        f"rank {SLOWEST} (Tesla P4): Out of memory in backward of micro-step 20 (update 20): Tried to allocate 384.00 "
        f"MiB. GPU {SLOWEST} has a total capacity of 7.43 GiB of which 23.00 MiB is free."
    )
    dead = record(
        run_id,
        Outcome.OUT_OF_MEMORY,
        config=config_of(n, virtual=virtual),
        device=card(0, virtual=virtual),
        message=message,
        failed_rank=SLOWEST,
        failed_phase=Phase.BACKWARD,
        peak_used_by_rank=tuple(held(rank).used for rank in range(n)),
        peak_used=held(0).used,
    )
    return RunFinished(record=dead)


def forecast_of(n: int, *, virtual: bool = False) -> Forecasted:
    """A forecast that is a little off."""
    config = config_of(n, virtual=virtual)
    peaks = tuple(7099 * MIB - 310 * rank * MIB for rank in range(n))
    several = {"gpus": n, "parallel": config.parallel, "peak_used_by_rank": peaks, "wait_share": 0.12}
    return Forecasted(config=config, forecast=forecast(7099, speedup=0.86 * n, **several))


class LiveSession(FakeSession):
    """A session whose run goes on by the clock."""

    def __init__(self, n: int, *, virtual: bool, stands: bool, dead: bool, history: FakeHistory) -> None:
        super().__init__(history=history)
        self._script = self._told(n, virtual=virtual, stands=stands, dead=dead)
        self._due = 0.0
        self._waiting: list[Event] = []
        self._began = monotonic()

    def drain(self) -> list[Event]:
        """What is due by now."""
        events = super().drain()
        while monotonic() - self._began >= self._due:
            events += self._waiting
            step = next(self._script, None)
            if step is None:
                self._due, self._waiting = float("inf"), []
                break
            self._due, self._waiting = step[0], list(step[1])
        return events

    def _told(self, n: int, *, virtual: bool, stands: bool, dead: bool) -> Iterator[tuple[float, tuple[Event, ...]]]:
        yield 0.2, (ready(card(0, virtual=virtual)), forecast_of(n, virtual=virtual))
        yield 0.5, begun(n, 9, virtual=virtual, planned=200)
        for number in range(1, 201):
            t = number / 2
            if number > 20 and dead:
                yield 0.5 + t, (out_of_memory(n, 9, virtual=virtual),)
                return
            beats = tuple(beat(rank, number, 0.3, Phase.BACKWARD, 9) for rank in range(n))
            if number > 20 and stands:
                phases = [Phase.FORWARD if rank == SLOWEST else Phase.BACKWARD for rank in range(n)]
                beats = tuple(beat(rank, 21, t - 10 - 0.1 * (rank != SLOWEST), phases[rank], 9) for rank in range(n))
                yield 0.5 + t, (*(beats if number % 2 else ()), sampled_of(n, 9, t, virtual=virtual))
                continue
            done = update_of(n, number, 9, t=t, update_s=0.5, loss=0.69 * 0.98**number + 0.02 * (number % 3))
            yield 0.5 + t, (done, *(beats if number % 2 else ()), sampled_of(n, 9, t, virtual=virtual))


def main(words: list[str]) -> None:
    """Show a run until q is pressed."""
    from tui.app.app import TraintopApp
    from tui.terminal.ascii import stream_to
    from tui.terminal.link import Link

    n, virtual = int(words[0]), "--virtual" in words
    history = FakeHistory([record(6), record(7, config=config_of(2), peak_used_by_rank=(6900 * MIB, 7069 * MIB))])
    session = LiveSession(n, virtual=virtual, stands="--stands" in words, dead="--dead" in words, history=history)
    link = Link()
    app = TraintopApp(session, config_of(n, virtual=virtual), link=link)
    sys.__stderr__ = stream_to(sys.stderr, link, in_ascii=False)  # type: ignore[misc, assignment]
    app.run()


if __name__ == "__main__":
    main(sys.argv[1:])
