"""What stands in for a `Session` where the screen does not drive: a recording, or another program's runs.

No threads: whoever drains asks the clock, or the history, what is due by now. Nothing here trains, and nothing writes.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from engine.contract.changes import Change
from engine.contract.config import RunConfig
from engine.contract.events import (
    AnsweringStarted,
    Event,
    HistoryChanged,
    Logged,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    RunFinished,
    RunRefused,
    RunStarted,
    Sampled,
    ScriptMade,
    TrainingStarted,
)
from engine.contract.records import DeviceInfo, RunRecord
from engine.contract.stop_reason import BY_USER
from engine.history.errors import HistoryError

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.plans.course import Plan
    from engine.session.keeper import Read, Reading
    from engine.training.saving.places import Checkpoint

T = TypeVar("T")

BATCH = 2000
"""Events of one `drain`: about 20 ms of the screen's time. The rest comes with the next one."""
POLL_S = 0.3
"""How often `wait` looks, and how often another program's runs are asked for: its history is written twice a second."""
GAP_S = 1.5
"""Between a recorded run's end and the next one's start, so that its result can be read."""
MAX_SPEED = 1000.0

_SAMPLE_S = 0.5  # the sampler's interval: all that tells time before training starts
_UNKNOWN = DeviceInfo(name="unknown device", kind="cpu")


class Playback(ABC):
    """An `Engine` that only shows: what would change something is refused."""

    def __init__(
        self,
        history: History,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._history = history
        self._clock = clock
        self._sleep = sleep
        self._answers: list[Event] = []

    @property
    @abstractmethod
    def label(self) -> str:
        """What the screen is showing, in a few words: `watching`, `recorded on 2026-03-01 ×10`."""

    @abstractmethod
    def _due(self) -> list[Event]:
        """What happened since the last call."""

    def open(self) -> None:
        """Begin; returns soon."""
        self._answers.clear()

    @property
    def busy(self) -> bool:
        """False: nobody has to wait for what is only shown."""
        return False

    def start(self, config: RunConfig) -> None:
        """Refuse a run: the refusal is among the next events."""
        message = f"Nothing can be started here: this is read-only ({self.label})."
        self._answers.append(RunRefused(run_id=None, config=config, knob="", message=message))

    def resume(self, found: Checkpoint, config: RunConfig) -> None:
        """Refuse to go on with a run."""
        del found
        self.start(config)

    def save_model(self, run_id: int, folder: str) -> None:
        """Refuse it, in the log."""
        del run_id, folder
        self._refuse("no model is saved")

    def start_plan(self, plan: Plan, plan_id: int | None = None) -> None:
        """Refuse a plan, in the log."""
        self._refuse("no plan is started")

    def forecast(self, config: RunConfig) -> None:
        """No answer: what is shown has happened."""
        del config

    def look_at(self, device: str) -> None:
        """Nothing to do: what is shown has its device."""
        del device

    def propose(self, record: RunRecord) -> None:
        """Refuse, in the log: the knobs are another program's."""
        self._refuse("no other configuration is proposed")

    def survey(self, config: RunConfig) -> None:
        """Refuse, in the log: nothing is placed anywhere."""
        self._refuse("no card is chosen")

    def hand_over(self, config: RunConfig, title: str, device: DeviceInfo | None = None) -> None:
        """Refuse: the data is read by an engine of one's own."""
        del config, device
        message = f"No script is made here: this is read-only ({self.label})."
        self._answers.append(ScriptMade(title=title, message=message))

    def keep(self, change: Change) -> None:
        """Refuse a change of the history: the refusal is among the next events."""
        problem = f"Nothing can be changed here: this is read-only ({self.label})."
        self._answers.append(HistoryChanged(change=change, problem=problem))

    def read(self, read: Read[T]) -> Reading[T]:
        """Ask the history, at once: nothing is driven here that waiting could harm."""
        from engine.session.keeper import Reading

        reading = Reading(read)
        reading.carry_out(self._history)
        return reading

    def pause_plan(self, paused: bool = True) -> None:
        """Refuse, in the log: the plan is another program's."""
        self._refuse("no plan is paused")

    def skip_run(self) -> None:
        """Refuse, in the log: the run is another program's."""
        self._refuse("no run is skipped")

    def forget_queued(self) -> None:
        """Refuse, in the log: nothing is queued here."""
        self._refuse("nothing is queued")

    def stop(self, why: str = BY_USER) -> None:
        """Refuse, in the log: the run is another program's."""
        self._refuse("no run is stopped")

    def _refuse(self, what: str) -> None:
        self._answers.append(Logged(source="engine", text=f"Read-only ({self.label}): {what}.", level="warning"))

    def drain(self) -> list[Event]:
        """What happened since the last call, `BATCH` events at most; never waits."""
        answers, self._answers = self._answers, []
        return answers + self._due()

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Like `drain`, but waits up to `timeout_s` for the first event."""
        deadline = None if timeout_s is None else self._clock() + timeout_s
        while not (events := self.drain()):
            left = POLL_S if deadline is None else deadline - self._clock()
            if left <= 0:
                break
            self._sleep(min(left, POLL_S))
        return events

    def close(self, timeout_s: float = 5.0) -> bool:
        """True: there is nothing to end."""
        return True


class Replay(Playback):
    """Plays recorded runs, one after the other, with the timing that they had, times `speed`.

    The series tells seconds since training started; before that, the sampler's two readings a second do. Between two
    runs there are `GAP_S` seconds. Several runs are shown as a plan.
    """

    def __init__(
        self,
        history: History,
        run_ids: Sequence[int],
        speed: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(history, clock=clock, sleep=sleep)
        self._run_ids = list(run_ids)
        self._times: list[float] = []
        self._events: list[Event] = []
        self._next = 0
        self._position = 0.0
        self._asked_at: float | None = None
        self.day = "an unknown day"
        """The day of the first run, known from `open` on."""
        self.speed = speed
        """Recorded seconds per second."""
        self.paused = False
        self.baselines: dict[str, int] = {}
        """The pinned runs by job, known from `open` on."""

    @property
    def label(self) -> str:
        """When it was recorded and how fast it is played."""
        how = "paused" if self.paused else "over" if self.over else f"×{self.speed:g}"
        return f"recorded on {self.day} {how}"

    @property
    def duration(self) -> float:
        """Recorded seconds, all runs and the gaps between them; 0 before `open`."""
        return self._times[-1] if self._times else 0.0

    @property
    def position(self) -> float:
        """Recorded seconds played so far."""
        return self._position

    @property
    def over(self) -> bool:
        """True once the last event was handed out."""
        return bool(self._events) and self._next >= len(self._events)

    def open(self) -> None:
        """Read the runs and begin to play."""
        try:
            records = [record for run_id in self._run_ids if (record := self._history.run(run_id)) is not None]
            started_at = next((record.started_at for record in records if record.started_at is not None), None)
            if started_at is not None:
                self.day = time.strftime("%Y-%m-%d", time.localtime(started_at))
            self.baselines = self._history.baselines()
            for index, record in enumerate(records):
                self._add(_around(index, records, _run(record, self._history)), GAP_S if index else 0.0)
        except HistoryError as error:
            self._answers.append(Logged(source="history", text=str(error), level="error"))
        self._asked_at = self._clock()

    def _add(self, events: Iterable[Event], gap_s: float) -> None:
        now = self.duration + gap_s
        began: float | None = None
        for event in events:
            t: float | None = getattr(event, "t", None)
            if isinstance(event, (TrainingStarted, AnsweringStarted)):
                began = now
            elif began is not None and t is not None:
                now = max(now, began + t)
            elif isinstance(event, Sampled):
                now += _SAMPLE_S
            self._times.append(now)
            self._events.append(event)

    def _due(self) -> list[Event]:
        self._advance()
        end = min(bisect_right(self._times, self._position, self._next), self._next + BATCH)
        events, self._next = self._events[self._next : end], end
        return events

    def _advance(self) -> None:
        if self._asked_at is None:
            return
        before, self._asked_at = self._asked_at, self._clock()
        if not self.paused:
            self._position = min(self._position + (self._asked_at - before) * self.speed, self.duration)

    def pause(self) -> None:
        """Pause, or go on."""
        self._advance()
        self.paused = not self.paused

    def change_speed(self, factor: float) -> None:
        """Play faster or slower from here on, between 1/8 and `MAX_SPEED` times."""
        self._advance()
        self.speed = min(max(self.speed * factor, 0.125), MAX_SPEED)

    def seek(self, seconds: float) -> bool:
        """Go forward, or back, by recorded seconds.

        True after a step back: what was handed out so far is to be forgotten; it comes again, up to the new position.
        """
        self._advance()
        self._position = min(max(self._position + seconds, 0.0), self.duration)
        if seconds >= 0:
            return False
        self._next = 0
        return True


def device_of(record: RunRecord) -> DeviceInfo:
    """A run's device; one without a name where the history has none."""
    return record.device if record.device is not None else _UNKNOWN


def beginning(record: RunRecord) -> RunStarted:
    """The start of a run, knobs and all, from its row."""
    return RunStarted(
        run_id=record.run_id, config=record.config, device=device_of(record), started_at=record.started_at or 0.0
    )


def _run(record: RunRecord, history: History) -> Iterable[Event]:
    yield beginning(record)
    for _, event in history.series(record.run_id):
        yield event
    yield RunFinished(record=record)


def _around(index: int, records: Sequence[RunRecord], events: Iterable[Event]) -> Iterable[Event]:
    """The events of one run of several, and what tells of the plan that they are shown as."""
    total = len(records)
    if total == 1:
        yield from events
        return
    numbers = f"runs {records[0].run_id} to {records[-1].run_id}"
    if index == 0:
        yield PlanStarted(plan_id=0, name="replay", title=f"replay of {numbers}", total=total)
    label = f"run {records[index].run_id}"
    yield PlanProgress(plan_id=0, position=index + 1, total=total, label=label)
    yield from events
    if index == total - 1:
        yield PlanFinished(plan_id=0, name="replay", completed=True, done=total, total=total)
