"""A session without an engine: tests put events into its mailbox and read what the screen asked of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from engine.contract.changes import Change
from engine.contract.config import RunConfig
from engine.contract.events import (
    EngineReady,
    Event,
    HistoryChanged,
    MemoryMoment,
    PlanFinished,
    RunFinished,
    RunStarted,
    Sampled,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.knob import TRAIN
from engine.contract.records import DeviceInfo, GpuSample, HostSample, Memory, Outcome, RunRecord, Shares
from engine.contract.stop_reason import BY_USER
from engine.history.history import HistoryError
from engine.history.plans import StoredPlan
from engine.plans.course import Plan, Verdict
from engine.session.engine import Engine
from engine.session.keeper import Read, Reading, write
from engine.training.saving.places import Checkpoint

T = TypeVar("T")

MIB = 2**20
GPU = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * MIB)
CPU = DeviceInfo(name="Intel Xeon", kind="cpu", memory_total=16_000 * MIB, memory_label="RAM")


class FakeSession:
    """An `Engine` that does nothing but remember what it was asked."""

    def __init__(self, label: str = "", history: FakeHistory | None = None) -> None:
        self.label = label
        self.history = history or FakeHistory()
        self.events: deque[Event] = deque()
        self.started: list[RunConfig] = []
        self.asked: list[RunConfig] = []
        self.handed_over: list[tuple[RunConfig, str]] = []
        self.proposed: list[RunRecord] = []
        self.looked_at: list[str] = []
        self.surveyed: list[RunConfig] = []
        self.opened = 0
        self.stopped = 0
        self.stopped_for = ""
        self.skipped = 0
        self.forgotten = 0
        self.resumed: list[tuple[Checkpoint, RunConfig]] = []
        self.models: list[tuple[int, str]] = []
        self.plans: list[tuple[Plan, int | None]] = []
        self.paused: list[bool] = []
        self.kept: list[Change] = []
        self.held: list[Event] = []
        self.holds = False
        self.n_unwritten = 0
        self.busy = False
        self.has_plan = False

    def open(self) -> None:
        self.opened += 1

    def start(self, config: RunConfig) -> None:
        self.started.append(config)
        self.busy = True

    def forecast(self, config: RunConfig) -> None:
        self.asked.append(config)

    def look_at(self, device: str) -> None:
        self.looked_at.append(device)

    def propose(self, record: RunRecord) -> None:
        self.proposed.append(record)

    def survey(self, config: RunConfig) -> None:
        self.surveyed.append(config)

    def hand_over(self, config: RunConfig, title: str, device: DeviceInfo | None = None) -> None:
        self.handed_over.append((config, title))

    def keep(self, change: Change) -> None:
        """Write at once; while `holds`, what came of it is told with `let_go`."""
        self.kept.append(change)
        problem = None
        try:
            write(self.history, change)  # type: ignore[arg-type]
        except HistoryError as error:
            problem = str(error)
        (self.held if self.holds else self.events).append(HistoryChanged(change=change, problem=problem))

    def let_go(self) -> list[Event]:
        """What came of the changes that were held."""
        held, self.held = self.held, []
        return held

    def read(self, read: Read[T]) -> Reading[T]:
        reading = Reading(read)
        reading.carry_out(self.history)  # type: ignore[arg-type]
        return reading

    def resume(self, found: Checkpoint, config: RunConfig) -> None:
        self.resumed.append((found, config))
        self.busy = True

    def save_model(self, run_id: int, folder: str) -> None:
        self.models.append((run_id, folder))

    def start_plan(self, plan: Plan, plan_id: int | None = None) -> None:
        self.plans.append((plan, plan_id))
        self.busy = self.has_plan = True

    def pause_plan(self, paused: bool = True) -> None:
        self.paused.append(paused)

    def skip_run(self) -> None:
        self.skipped += 1

    def forget_queued(self) -> None:
        self.forgotten += 1

    def stop(self, why: str = BY_USER) -> None:
        self.stopped += 1
        self.stopped_for = why

    def drain(self) -> list[Event]:
        events = list(self.events)
        self.events.clear()
        return events

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        return self.drain()

    def close(self, timeout_s: float = 5.0) -> bool:
        return True

    def feed(self, *events: Event) -> None:
        """Put events into the mailbox; a run's end makes the session idle, or its plan's end where it has one."""
        self.events.extend(events)
        end = PlanFinished if self.has_plan else RunFinished
        if any(isinstance(event, end) for event in events):
            self.busy = self.has_plan = False


class FakePlans:
    """What the screen asks of `engine.history.plans.Plans`."""

    def __init__(self, plans: Iterable[StoredPlan], runs: list[RunRecord]) -> None:
        self._plans, self._runs = list(plans), runs

    def newest(self) -> list[StoredPlan]:
        return self._plans

    def interrupted(self) -> list[StoredPlan]:
        return [stored for stored in self._plans if stored.can_go_on]

    def steps(self, plan_id: int) -> dict[tuple[int, int], Verdict]:
        return {(run.run_id, 0): Verdict(record=run) for run in self._runs}


class FakeHistory:
    """What the screen asks of `engine.history.history.History`."""

    def __init__(
        self, runs: Iterable[RunRecord] = (), baseline: int | None = None, plans: Iterable[StoredPlan] = ()
    ) -> None:
        self._runs = list(runs)
        self._baselines = {run.config.job: run.run_id for run in self._runs if run.run_id == baseline}
        self.plans = FakePlans(plans, self._runs)
        self.notice: str | None = None
        self._notes: dict[int, str] = {}
        self.deleted: set[int] = set()
        self.problem = ""
        """Why nothing can be written; empty while it can."""
        self.events: dict[int, list[Event]] = {}
        """Stored series by run."""

    def run(self, run_id: int) -> RunRecord | None:
        return next((row for row in self._runs if row.run_id == run_id), None)

    def runs(self, *, limit: int | None = None, newest_first: bool = False, **_: Any) -> list[RunRecord]:
        runs = sorted(self._runs, key=lambda run: run.run_id, reverse=newest_first)
        return [run for run in runs if run.run_id not in self.deleted][:limit]

    def _may_write(self) -> None:
        if self.problem:
            raise HistoryError(self.problem)

    def set_baseline(self, run_id: int | None, job: str = TRAIN) -> None:
        self._may_write()
        self._baselines.pop(job, None)
        if run_id is not None:
            self._baselines[job] = run_id

    def baseline(self, job: str = TRAIN) -> int | None:
        return self.baselines().get(job)

    def baselines(self) -> dict[str, int]:
        return {job: run_id for job, run_id in self._baselines.items() if run_id not in self.deleted}

    def note(self, run_id: int, text: str) -> None:
        self._may_write()
        self._notes[run_id] = text

    def notes(self) -> dict[int, str]:
        return {run_id: text for run_id, text in self._notes.items() if text}

    def delete(self, run_ids: Iterable[int]) -> None:
        self._may_write()
        self.deleted |= set(run_ids)

    def restore(self, run_ids: Iterable[int]) -> None:
        self._may_write()
        self.deleted -= set(run_ids)

    def series(self, run_id: int, after: int = 0) -> Iterator[tuple[int, Event]]:
        yield from enumerate(self.events.get(run_id, [])[after:], after + 1)


_IS_AN_ENGINE: Engine = FakeSession()  # mypy reads this file


def ready(device: DeviceInfo = GPU) -> EngineReady:
    return EngineReady(device=device, torch_version="2.13.0", import_s=2.5)


def started(run_id: int = 1, config: RunConfig | None = None, device: DeviceInfo = GPU) -> RunStarted:
    return RunStarted(run_id=run_id, config=config or RunConfig(), device=device, started_at=1_700_000_000.0)


def training(run_id: int = 1, planned: int = 64) -> TrainingStarted:
    return TrainingStarted(
        run_id=run_id,
        n_parameters=4_386_178,
        n_train=512,
        n_eval=100,
        planned_updates=planned,
        micro_steps_per_epoch=64,
    )


def memory(used: int = 7099, reserved: int = 6568, allocated: int = 6365, total: int = 7611) -> Memory:
    """A reading in MiB, as bytes, with the breakdown of a training step."""
    by = {"weights": 418, "gradients": 418, "optimizer": 836, "activations": max(0, allocated - 1672)}
    return Memory(
        used=used * MIB,
        reserved=reserved * MIB,
        allocated=allocated * MIB,
        peak_used=used * MIB,
        peak_reserved=reserved * MIB,
        peak_allocated=allocated * MIB,
        total=total * MIB,
        by_category={name: size * MIB for name, size in by.items()},
    )


def update(number: int = 1, run_id: int = 1, **values: Any) -> UpdateDone:
    """Update `number` at 8 samples/s, warm-up for the first three."""
    event = UpdateDone(
        run_id=run_id,
        update=number,
        epoch=number / 64,
        loss=0.7 - number * 0.005,
        learning_rate=5e-5,
        grad_norm=1.25,
        loss_scale=None,
        skipped=False,
        n_samples=8,
        n_tokens=4096,
        update_s=1.0,
        warmup=number <= 3,
        t=float(number),
        shares=Shares(data=0.01, forward=0.31, backward=0.61, optimizer=0.07),
        memory=memory(),
    )
    return replace(event, **values)


def sampled(run_id: int | None = 1, t: float | None = 5.0, gpu: bool = True) -> Sampled:
    reading = GpuSample(name="Tesla P4", utilization=97.0, memory_utilization=61.0, power=72.0, temperature=61)
    host = HostSample(cpu=55.0, process_cpu=180.0, memory_used=3000 * MIB, memory_total=16_000 * MIB)
    return Sampled(run_id=run_id, t=t, gpu=reading if gpu else None, host=host, memory=memory())


def record(run_id: int = 1, outcome: Outcome = Outcome.COMPLETED, **values: Any) -> RunRecord:
    """A finished run as the lecture has it; one that ran out of memory knows no speed."""
    done = outcome is Outcome.COMPLETED
    run = RunRecord(
        run_id=run_id,
        config=RunConfig(model="bert-base-uncased"),
        outcome=outcome,
        device=GPU,
        started_at=1_700_000_000.0,
        updates=64 if done else 3,
        planned_updates=64,
        train_runtime_s=66.7 if done else None,
        samples_per_s=7.68 if done else None,
        steady_samples_per_s=7.70 if done else None,
        steady_spread=0.03 if done else None,
        train_loss=0.029 if done else None,
        last_loss=0.011 if done else None,
        n_parameters=109_483_778,
        peak_used=7069 * MIB if done else None,
        memory_total=7611 * MIB,
    )
    return replace(run, **values)


def finished(run_id: int = 1, outcome: Outcome = Outcome.COMPLETED, **values: Any) -> RunFinished:
    return RunFinished(record=record(run_id, outcome, **values))


def moment(name: str, run_id: int = 1) -> MemoryMoment:
    return MemoryMoment(run_id=run_id, moment=name, memory=memory())
