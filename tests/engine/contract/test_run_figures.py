"""A run's figures are the same wherever its events are folded: while it runs, when its process died, at its end."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import (
    EvalDone,
    Event,
    MemoryMoment,
    RunFinished,
    RunStarted,
    Sampled,
    TrainingStarted,
    UpdateDone,
    WorkCounted,
)
from engine.contract.records import DeviceInfo, GpuSample, HostSample, Memory, Outcome, RankShare, RunRecord, Shares
from engine.contract.run_figures import RunFigures, new_record
from engine.history.history import History
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.state import State

GPU = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=8000)
CONFIG = RunConfig(batch_size=8)
ENDS = {"outcome", "message", "failed_phase", "host"}


def events_of(run_id: int, n_updates: int, seed: int = 0) -> list[Event]:
    """What a run says, with uneven updates, peaks that come and go, and evaluations."""
    numbers = random.Random(seed)

    def memory() -> Memory:
        used = numbers.randrange(1000, 8000)
        peak = numbers.choice([None, used + 5])
        reserved = numbers.randrange(500, 1000)
        return Memory(used=used, reserved=reserved, allocated=reserved // 2, peak_used=peak, total=7900)

    def sample(t: float | None) -> Sampled:
        host = HostSample(cpu=5.0, cores=4.0, free_cores=numbers.choice([None, 4.0, numbers.uniform(0.0, 4.0)]))
        return Sampled(run_id=run_id, t=t, gpu=GpuSample(utilization=90.0), host=host, memory=memory())

    events: list[Event] = [
        MemoryMoment(run_id=run_id, moment="start", memory=memory()),
        sample(None),
        WorkCounted(run_id=run_id, flops_per_token=1e9, peak_flops_per_s=1e15),
        TrainingStarted(
            run_id=run_id,
            n_parameters=1_000,
            n_train=8 * n_updates,
            n_eval=16,
            planned_updates=n_updates + 1,
            micro_steps_per_epoch=n_updates + 1,
        ),
    ]
    t = 0.0
    for number in range(1, n_updates + 1):
        seconds = numbers.uniform(0.1, 3.0)
        t += seconds
        n_samples = numbers.choice([7, 8])
        events.append(
            UpdateDone(
                run_id=run_id,
                update=number,
                epoch=number / n_updates,
                loss=numbers.uniform(0.1, 2.0),
                learning_rate=1e-4,
                grad_norm=None,
                loss_scale=None,
                skipped=False,
                n_samples=n_samples,
                n_tokens=128 * n_samples,
                update_s=seconds,
                warmup=number <= 5,
                t=t,
                shares=Shares(),
                memory=memory(),
            )
        )
        if number % 7 == 0:
            events.append(sample(t))
        if number % 50 == 0:
            t += 1.5
            events.append(
                EvalDone(run_id=run_id, epoch=1.0, update=number, accuracy=0.5, loss=0.6, n_samples=16, eval_s=1.5, t=t)
            )
    return events


def figures_of(record: RunRecord) -> dict[str, object]:
    return {f.name: getattr(record, f.name) for f in fields(RunRecord) if f.name not in ENDS}


def folded(run_id: int, events: Sequence[Event]) -> RunRecord:
    figures = RunFigures(new_record(run_id, CONFIG, GPU, 1.0))
    for event in events:
        figures.add(event)
    return figures.as_record()


@pytest.mark.parametrize("n_updates", [0, 1, 7, 8, 120, 10_500])
def test_the_screen_the_row_of_a_killed_process_and_the_record_tell_the_same(tmp_path: Path, n_updates: int) -> None:
    state = State(editor=KnobEditor(CONFIG))
    path = tmp_path / "history.sqlite3"
    with History(path) as history:
        run_id = history.writer.begin_run(CONFIG, GPU, 1.0)
        fold(state, RunStarted(run_id=run_id, config=CONFIG, device=GPU, started_at=1.0))
        events = events_of(run_id, n_updates)
        for index, event in enumerate(events):
            fold(state, event)
            history.writer.append(event)
            if index % 997 == 0:  # as twice a second: the row is written while the run goes on
                assert history.writer.flush() is None
        assert history.writer.flush() is None
        live, row, whole = state.rows[-1], history.run(run_id), folded(run_id, events)
        assert row is not None
        assert figures_of(live) == figures_of(row) == figures_of(whole)
        played = folded(run_id, [event for _, event in history.series(run_id)])
        assert played == whole
        fold(state, RunFinished(record=replace(whole, outcome=Outcome.STOPPED)))
        assert figures_of(state.rows[-1]) == figures_of(whole)


def test_figures_are_those_of_a_plain_calculation() -> None:
    events = events_of(1, 10_500)
    updates = [event for event in events if isinstance(event, UpdateDone)]
    last = [event for event in events if isinstance(event, (UpdateDone, EvalDone))][-1]
    n_samples, n_tokens = sum(e.n_samples for e in updates), sum(e.n_tokens for e in updates)
    record = folded(1, events)
    assert record.updates == 10_500
    assert record.train_runtime_s == last.t
    assert record.samples_per_s == n_samples / last.t
    steady = median([e.n_samples / e.update_s for e in updates if not e.warmup])
    assert record.steady_samples_per_s == pytest.approx(steady, rel=1e-12)
    assert record.tokens_per_s == pytest.approx(steady * n_tokens / n_samples)
    assert record.mfu == pytest.approx(steady * n_tokens / n_samples * 1e9 / 1e15)
    assert record.train_loss == pytest.approx(math.fsum(e.loss for e in updates) / len(updates))
    assert (record.eval_accuracy, record.eval_loss, record.n_eval) == (0.5, 0.6, 16)
    assert record.memory_total == 7900


def test_a_run_that_told_nothing_has_no_figures() -> None:
    record = folded(1, [])
    assert record == new_record(1, CONFIG, GPU, 1.0)


def test_a_run_cut_short_in_its_first_update_has_no_time_and_no_speed() -> None:
    record = folded(1, events_of(1, 0))
    assert (record.train_runtime_s, record.samples_per_s, record.train_loss, record.updates) == (None, None, None, 0)
    assert record.planned_updates == 1


def test_what_happened_later_leaves_the_earlier_figures_alone() -> None:
    events = events_of(1, 3000)
    before = RunFigures(new_record(1, CONFIG, GPU, 1.0)).after(events[:2000])
    told = before.as_record()
    assert before.after(events[2000:]).as_record() == folded(1, events)
    assert before.as_record() == told == folded(1, events[:2000])


def rank_update(number: int, waits: tuple[float, float], used: tuple[int, int], *, warmup: bool = False) -> UpdateDone:
    """An update of two ranks that takes a second."""
    shares = [Shares(forward=1.0 - wait, waiting=wait) for wait in waits]
    ranks = tuple(
        RankShare(rank=n, n_samples=4, n_tokens=4, update_s=1.0, shares=shares[n], memory=Memory(peak_used=used[n]))
        for n in range(2)
    )
    return UpdateDone(
        run_id=1,
        update=number,
        epoch=number / 10,
        loss=0.5,
        learning_rate=1e-4,
        grad_norm=None,
        loss_scale=None,
        skipped=False,
        n_samples=8,
        n_tokens=8,
        update_s=1.0,
        warmup=warmup,
        t=float(number),
        shares=Shares(forward=1.0 - sum(waits) / 2, waiting=sum(waits) / 2),
        memory=Memory(peak_used=max(used)),
        ranks=ranks,
    )


def test_of_several_gpus_every_peak_is_kept_and_what_was_waited_in_steady_updates() -> None:
    figures = RunFigures(new_record(1, CONFIG.with_values(gpus=2), GPU, 1000.0))
    assert (figures.as_record().peak_used_by_rank, figures.as_record().wait_share) == ((), None)
    figures.add(rank_update(1, (0.9, 0.9), (10, 40), warmup=True))
    before = figures.after([])
    figures.add(rank_update(2, (0.0, 0.5), (30, 20)))
    figures.add(rank_update(3, (0.2, 0.1), (20, 20)))
    record = figures.as_record()
    assert (record.peak_used_by_rank, record.peak_used) == ((30, 40), 40)
    assert record.wait_share == pytest.approx((0.25 + 0.15) / 2)
    assert before.as_record().peak_used_by_rank == (10, 40)
    figures.add(MemoryMoment(run_id=1, moment="trained", memory=Memory(peak_used=50)))  # read on the first rank
    assert (figures.as_record().peak_used_by_rank, figures.as_record().peak_used) == ((50, 40), 50)


def test_one_gpu_waits_for_nobody() -> None:
    figures = RunFigures(new_record(1, CONFIG, GPU, 1000.0))
    figures.add(replace(rank_update(9, (0.0, 0.0), (10, 10)), ranks=()))
    assert (figures.as_record().peak_used_by_rank, figures.as_record().wait_share) == ((), None)
