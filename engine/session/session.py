"""Session: the engine's threads, the run under way, stop, and the mailbox. The training has no other threads.

One daemon thread runs one `RunConfig` after the other; another imports torch meanwhile, which a user's own script does
not wait for; one samples the GPU and the host twice a second and flushes the history; two write and read the history
for the screen; a short-lived one asks whether the hub answers; one reads what libraries print. They report through one
bounded mailbox; no caller of this class ever waits for them.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from engine.contract.changes import Change
from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    DeviceChosen,
    EngineFailed,
    EngineLoading,
    EngineReady,
    Event,
    HistoryState,
    JobKnown,
    Logged,
    MemoryMoment,
    RanksStarted,
    RequestDone,
    RunFinished,
    RunRefused,
    RunStarted,
    Sampled,
    ScriptKnown,
    TrainingStarted,
    WontEnd,
)
from engine.contract.host_load import HostLoad
from engine.contract.job import BatchJob
from engine.contract.neighbours import who
from engine.contract.own_models import is_own, of_draft_model
from engine.contract.records import DeviceInfo, GpuSample, HostSample, Memory, Outcome, Place, RunRecord
from engine.contract.run_figures import new_record
from engine.contract.stop_reason import BY_USER
from engine.history.history import History, HistoryError
from engine.plans.course import NAMED, Hopeless, Plan
from engine.process import slurm
from engine.process.heap import share_main_heap
from engine.process.launched import Launched
from engine.process.mailbox import Mailbox
from engine.process.openmp import give_back_threads
from engine.scripts.device import ScriptDevice
from engine.session.asked import Asked
from engine.session.capture import OutputCapture
from engine.session.keeper import Keeper, Read, Reading
from engine.session.kept_model import KeptModel, save_kept
from engine.session.leaving import end_scripts
from engine.session.neighbours import NeighbourWatch
from engine.session.outside import OutsideMemory
from engine.session.placing import Readable, find
from engine.session.plan_runner import PlanRunner
from engine.session.time_limit import TimeLimit
from engine.telemetry.host import HostSampler
from engine.telemetry.nvml import door
from engine.telemetry.sampler import Sampler
from engine.training.hub import Hub

if TYPE_CHECKING:
    from engine.devices.base import Device
    from engine.scripts.attaching import Attached
    from engine.session.forecasts import Forecasts
    from engine.training.own_models import OwnModel
    from engine.training.saving.places import Checkpoint

log = logging.getLogger("traintop")

T = TypeVar("T")

_BEFORE_RUN = 6
"""Readings of the host, 3 seconds, that tell a run which cores are free."""
_LEFT = "traintop was left before the run had stopped."


@dataclass(frozen=True, slots=True)
class _Resumed:
    """A run that goes on with a checkpoint."""

    found: Checkpoint
    config: RunConfig


@dataclass(frozen=True, slots=True)
class _Save:
    """Asks the engine's thread to write the model of a run that has ended."""

    run_id: int
    folder: str


@dataclass(frozen=True, slots=True)
class _Look:
    """Asks the engine's thread to go over to another device, once what was asked before is done."""

    device: str


_Request = RunConfig | _Resumed | PlanRunner | _Look | _Save


def _does_without_libraries(request: _Request) -> bool:
    """Whether this process itself computes nothing for it."""
    return bool(configs := _configs_of(request)) and all(config.is_script for config in configs)


def _looks_for_a_free_card(request: _Request) -> bool:
    """Whether CUDA is asked which cards there are, for which PyTorch is imported."""
    return any(read_device(config.device).free for config in _configs_of(request))


def _configs_of(request: _Request) -> list[RunConfig]:
    if isinstance(request, PlanRunner):
        return [run.config for run in request.plan.runs]
    return [request] if isinstance(request, RunConfig) else []


def _nowhere() -> None:
    """No step is under way."""


class Session:
    """Runs trainings in the background of a program.

    `history` keeps the runs; `capture`, already started, is where libraries' prints are read from; `hopeless`, asked
    in the engine's thread, lets searches pass over tries that surely do not fit. `device` is the one to begin with.
    With `measures` a CUDA GPU that nobody else computes on is asked at the start what a context and the libraries take
    on it, for the forecasts: they are there from then on.
    With `keeps_model` the model of the run that has just trained stays in the host's memory, for `save_model` and to be
    asked as `run:N`, until the next training begins.
    `launched` tells of processes that this one is the first of: they do its runs with it. `attached` is a process that
    does the run, and has asked to be watched.
    """

    def __init__(
        self,
        history: History,
        capture: OutputCapture | None = None,
        hopeless: Hopeless | None = None,
        *,
        device: str = "auto",
        measures: bool = False,
        keeps_model: bool = False,
        launched: Launched | None = None,
        attached: Attached | None = None,
    ) -> None:
        self._history = history
        self._launched, self._attached = launched, attached
        self._environ = dict(os.environ)  # before what is imported adds to it
        self._capture = capture
        self._hopeless = hopeless or self._forecast_is_hopeless
        self._looked_at = device
        self._measures = measures
        self._keeps_model = keeps_model
        self._kept: KeptModel | None = None
        self._mailbox: Mailbox[Event] = Mailbox()
        self._keeper = Keeper(history, self._mailbox.put)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._plan: PlanRunner | None = None
        self._pending = 0
        self._lock = threading.Lock()
        self._stop_run = threading.Event()
        self._why_stopped = BY_USER
        self._times_stopped = 0
        self._closing = threading.Event()
        self._hub = Hub()
        self._nvml = door()
        self._outside = OutsideMemory(self._nvml)
        self._neighbours = NeighbourWatch(self._nvml, self._emit)
        host = HostSampler(launcher=None if launched is None else os.getppid(), computing=self._computing)
        self._sampler = Sampler(self._nvml, host, on_sample=self._on_sample)
        self._asked = Asked(self._hub, self._nvml, self._closing, lambda: self._run_id, self._mailbox.put, self._emit)
        self._forecasts: Forecasts | None = None
        self._device: Readable | None = None
        self._run_id: int | None = None
        self._training_since: float | None = None
        self._place: Callable[[], Place | None] = _nowhere
        self._limit = TimeLimit(self._earlier_runs, self._speed_by_forecast)
        self._said_late = False
        self._host_before: deque[HostSample] = deque(maxlen=_BEFORE_RUN)
        self._host = HostLoad()
        self._history_state = HistoryState(problem=None)
        self._history_told: str | None = None
        self._threads: list[threading.Thread] = []
        self._loader: threading.Thread | None = None
        self._has_loaded = False
        self._placing = threading.Lock()  # the first device is opened and measured while no run begins

    # for the screen's thread ------------------------------------------------------------------------------------

    label = ""
    """Nothing stands in for this engine."""

    def open(self) -> None:
        """Start the threads; returns at once. `EngineReady` follows in the mailbox."""
        share_main_heap()
        give_back_threads()
        work: dict[str, Callable[[], None]] = {
            "engine": self._work,
            "sampler": lambda: self._sampler.run(self._closing),
            "hub": self._hub.probe,
            "forecaster": self._asked.answer,
            "keeper": self._keeper.write_changes,
            "reader": self._keeper.answer,
        }
        if job := slurm.job_here():
            self._know(job)
            if job.ends_at is None:
                work["job"] = lambda: self._know(slurm.ask_end(job))
        if self._capture:
            capture = self._capture
            work["output"] = lambda: capture.pump(self._on_output)
        self._threads = [threading.Thread(target=do, name=name, daemon=True) for name, do in work.items()]
        for thread in self._threads:
            thread.start()

    def start(self, config: RunConfig) -> None:
        """Queue a run; it begins when the runs before it have ended. A file that is missing is refused at once."""
        try:
            self.check_data(config)
        except ConfigError as error:
            self._emit(RunRefused(run_id=None, config=config, knob=error.knob, message=error.message))
            return
        self._queue(config)

    @staticmethod
    def check_data(config: RunConfig) -> None:
        """Raises `ConfigError` where a file to train on is missing or broken, as far as that is soon seen."""
        if config.is_script:  # which reads its own
            return
        from engine.workloads.early import check_data

        with suppress(OSError):  # reading it for the run says what is wrong
            check_data(config)

    def resume(self, found: Checkpoint, config: RunConfig) -> None:
        """Queue a run that goes on with a checkpoint, as `engine.session.resumption` finds it, with these knobs."""
        self._queue(_Resumed(found, config))

    def save_model(self, run_id: int, folder: str) -> None:
        """Write the model of the run that has just ended into `folder`; `Saved` follows, or tells why not."""
        self._requests.put(_Save(run_id, folder))

    def forecast(self, config: RunConfig) -> None:
        """Ask what `config` would need; `Forecasted` follows, unless another question comes before the answer."""
        self._asked.forecast(config)

    def look_at(self, device: str) -> None:
        """Show the device of the next run once nothing is under way; `DeviceChosen` follows, where it is there."""
        self._looked_at = device
        self._requests.put(_Look(device))

    def propose(self, record: RunRecord) -> None:
        """Ask what would fit instead of a run that was out of memory; `Proposed` follows."""
        self._asked.propose(record)

    def survey(self, config: RunConfig) -> None:
        """Ask which cards there are for `config`, and what it would need there; `Surveyed` follows."""
        self._asked.survey(config)

    def hand_over(self, config: RunConfig, title: str, device: DeviceInfo | None = None) -> None:
        """Ask for a run as a script for the Hugging Face Trainer; `ScriptMade` follows. `device` is where it was."""
        self._asked.hand_over(config, title, device)

    def keep(self, change: Change) -> None:
        """Write what a person changed in the history; `HistoryChanged` follows."""
        self._keeper.keep(change)

    @property
    def n_unwritten(self) -> int:
        """Changes asked for with `keep` that nothing came of yet."""
        return self._keeper.n_waiting

    def read(self, read: Read[T]) -> Reading[T]:
        """Ask the history, in a thread that may wait for it; what comes back is `done` some time later."""
        return self._keeper.read(read)

    def start_plan(self, plan: Plan, plan_id: int | None = None) -> None:
        """Queue a plan; `PlanStarted` follows. `plan_id` goes on with one of `History.plans.interrupted`."""
        runner = PlanRunner(
            plan=plan,
            history=self._history,
            run_one=self._attempt_next,
            emit=self._emit,
            hopeless=self._hopeless,
            foretell=self._foretell,
            plan_id=plan_id,
        )
        self._queue(runner)

    def _queue(self, request: RunConfig | _Resumed | PlanRunner) -> None:
        with self._lock:
            self._pending += 1
        self._requests.put(request)

    def pause_plan(self, paused: bool = True) -> None:
        """Let the plan under way wait after its current run, or (False) go on."""
        with self._lock:
            if self._plan is not None:
                self._plan.control.pause(paused)

    def skip_run(self) -> None:
        """Stop the run under way, and go on with what comes next: of its plan, or in the queue."""
        with self._lock:
            if self._run_id is not None:
                if self._plan is not None:
                    self._plan.control.skip()
                self._stop_for(BY_USER)

    def forget_queued(self) -> None:
        """Forget what is queued; what is under way goes on."""
        with self._lock:
            self._empty_queue()

    def _empty_queue(self) -> None:
        while not self._requests.empty():
            if isinstance(self._requests.get_nowait(), (RunConfig, _Resumed, PlanRunner)):
                self._pending -= 1

    def stop(self, why: str = BY_USER) -> None:
        """Stop the run under way at its next layer, or where it loads, and its plan, and forget what is queued.

        The row is kept and says `why`, one of `engine.contract.stop_reason`; the plan can go on later. A script is
        asked to end; who calls again while it goes on has it told, and then ended.
        """
        with self._lock:
            if self._plan is not None:
                self._plan.control.stop()
            self._empty_queue()
            if self._pending:
                self._stop_for(why)

    def _stop_for(self, why: str) -> None:
        if not self._stop_run.is_set():  # what came first stopped it
            self._why_stopped = why
        self._times_stopped += 1
        self._stop_run.set()

    def _forget_stop(self) -> None:
        self._times_stopped = 0
        self._stop_run.clear()

    @property
    def busy(self) -> bool:
        """True from `start` until the run's `RunFinished` or `RunRefused` is in the mailbox; for a plan, its end."""
        return self._pending > 0

    def drain(self) -> list[Event]:
        """What happened since the last call; never waits."""
        return self._mailbox.drain()

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """What happened since the last call; waits up to `timeout_s` for the first event."""
        return self._mailbox.wait(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Stop the run, end the threads and flush the history. False when a thread is still busy after `timeout_s`.

        A run that has not stopped by then is `interrupted`: the process is expected to end, see `leaving.leave`.
        """
        self.stop()
        self._closing.set()
        self._requests.put(None)
        self._asked.end()
        self._keeper.close()
        deadline = time.monotonic() + timeout_s
        # the sampler first: it ends at once, and where the engine does not there is no time left for it
        every = [*self._threads, *([self._loader] if self._loader is not None else [])]
        threads = sorted(every, key=lambda thread: thread.name != "sampler")
        ended = {t.name: self._joined(t, deadline) for t in threads if t.name != "output"}
        if not ended.get("engine", True):
            end_scripts()
        if ended.get("sampler", True):  # a driver that hangs holds NVML's lock
            self._nvml.shutdown()
        self._flush()
        if not ended.get("engine", True) and (problem := self._history.writer.interrupt_runs(_LEFT)):
            self._report_history(problem)
        return all(ended.values())

    @staticmethod
    def _joined(thread: threading.Thread, deadline: float) -> bool:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not thread.is_alive()

    # the engine's thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._requests.empty():  # while nothing is asked for, what is heavy is imported
            self._begin_loading()
        while (request := self._requests.get()) is not None:
            if not _does_without_libraries(request):
                self._begin_loading().join()
                if not self._has_loaded:
                    return
            elif self._loader is not None and _looks_for_a_free_card(request):
                self._loader.join()  # two threads that import the same get in each other's way
            if isinstance(request, _Look):
                self._look(request.device)
                continue
            if isinstance(request, _Save):
                self._emit(save_kept(self._kept, request.run_id, request.folder))
                continue
            try:
                if isinstance(request, RunConfig):
                    self._attempt_alone(request)
                elif isinstance(request, _Resumed):
                    self._attempt_alone(request.config, request.found)
                else:
                    self._follow(request)
            finally:
                with self._lock:
                    self._plan = None
                    self._pending -= 1
                    self._forget_stop()

    def _say_if_late(self, configs: Sequence[RunConfig], what: str) -> None:
        """Say where what begins now does not end before the batch job does."""
        try:
            why = self._limit.why_not(configs, self._device.info if self._device else None, what)
        except HistoryError:  # told where the history is written
            return
        self._said_late = why is not None
        if why is not None:
            self._emit(WontEnd(message=why))

    def _follow(self, plan: PlanRunner) -> None:
        with self._lock:
            self._plan = plan
            if self._stop_run.is_set():  # between the queue and here
                plan.control.stop()
        self._say_if_late(plan.left, f"The plan {plan.plan.title!r}")
        plan.execute()

    def _attempt_next(self, config: RunConfig, began: Callable[[int], None]) -> RunRecord | RunRefused:
        """Do one run of the plan under way."""
        with self._lock:
            if self._plan is not None and not self._plan.control.stopped:
                self._forget_stop()  # it was meant for the run before
            plan = self._plan
        if plan is not None and not self._said_late:
            self._say_if_late(plan.left, "What is left of the plan")
        return self._attempt(config, began)

    def _attempt_alone(self, config: RunConfig, goes_on: Checkpoint | None = None) -> None:
        """Do one run that belongs to no plan."""
        try:
            self._say_if_late([config], "This run")
            self._attempt(config, lambda run_id: None, goes_on)
        except HistoryError as error:
            self._refuse(RunRefused(run_id=None, config=config, knob="", message=str(error), no_history=True))

    def _attempt(
        self, config: RunConfig, began: Callable[[int], None], goes_on: Checkpoint | None = None
    ) -> RunRecord | RunRefused:
        """Do one run, whatever happens. `began` is told the number of its row.

        Raises `HistoryError` when it cannot have one; nothing else.
        """
        try:
            return self._run(config, began, goes_on)
        except Exception as error:  # a defect of ours must not end the thread: the screen would wait forever
            if isinstance(error, HistoryError) and self._run_id is None:
                raise
            log.exception("the engine could not finish a run")
            self._emit(Logged(source="engine", text=f"The engine could not finish the run: {error}", level="error"))
            return self._abandon(config, self._sentence(error))
        finally:
            self._run_id = self._training_since = None
            self._place = _nowhere

    def _begin_loading(self) -> threading.Thread:
        """The thread that imports what is heavy; it begins when it is first asked for."""
        if self._loader is None:
            self._loader = threading.Thread(target=self._load, name="loader", daemon=True)
            self._loader.start()
        return self._loader

    def _load(self) -> None:
        """Import what is heavy and open the device to begin with; a script may run meanwhile, and keeps its own."""
        began = time.perf_counter()
        self._emit(EngineLoading(what="PyTorch"))
        try:
            import torch

            self._emit(EngineLoading(what="transformers"))
            from engine.process.imports import import_transformers
            from engine.session.forecasts import Forecasts
            from engine.training.run import quiet_libraries

            import_transformers()
            quiet_libraries()
            with self._placing:
                is_first = self._device is None
                device, note = self._open_first(measures=self._measures and is_first)
                if is_first:
                    self._use(device)
            self._forecasts = Forecasts(self._hub, self._history.runs, self._nvml, self._outside, self._own_model)
        except Exception as error:
            log.exception("the engine could not start")
            fix = "Run `traintop doctor` to see what is missing; the log file has the details."
            self._asked.begin(None)
            self._emit(EngineFailed(message=f"The engine could not start: {type(error).__name__}: {error}. {fix}"))
            return
        # what was imported stays: to look through it for garbage would take a fifth of a second at the end of each run
        gc.freeze()
        self._asked.begin(self._forecasts)
        self._has_loaded = True
        import_s = time.perf_counter() - began
        ready = EngineReady(device=device.info, torch_version=torch.__version__, import_s=import_s, note=note)
        self._emit(ready)

    def _open_first(self, *, measures: bool) -> tuple[Device, str | None]:
        """The device to begin with, measured where that can be, and what should be known about it.

        Where it is not there, or a GPU answers nothing, the engine can still run on another: the CPU is always there.
        """
        from engine.devices.cpu import CpuDevice
        from engine.devices.open import open_device, why_virtual

        note = None
        for name in dict.fromkeys((self._looked_at, "auto")):
            config = RunConfig(device=name)
            try:
                device = open_device(config, self._nvml, patient=False)
            except ConfigError:  # a run that asks for it is refused in the same words
                continue
            except Exception as error:
                log.exception("the device %s cannot be used", name)
                note = note or f"--device {name} cannot be used: {self._sentence(error)}"
                continue
            if measures and name == self._looked_at:
                self._outside.measure(device)
            return device, note or why_virtual(config, self._nvml)
        return CpuDevice(), note

    def _look(self, name: str) -> None:
        """Show the device that the next run would be placed on; one that is not there changes nothing."""
        from engine.devices.open import open_device

        if name != self._looked_at:  # another one was asked for meanwhile
            return
        try:
            device = open_device(RunConfig(device=name), self._nvml, patient=False)
        except ConfigError:  # the forecast says so
            return
        except Exception:
            log.exception("the device %s cannot be looked at", name)
            return
        self._use(device)
        self._emit(DeviceChosen(device=device.info))

    def _use(self, device: Readable) -> None:
        self._watch((device.info,))
        self._device = device

    def _watch(self, devices: Sequence[DeviceInfo]) -> None:
        """Read these cards from now on."""
        self._sampler.select(*(device.uuid for device in devices))
        self._neighbours.use(devices, elsewhere=self._computing())

    def _computing(self) -> tuple[int, ...]:
        """The processes that compute in this one's place; none where it does so itself."""
        return self._device.pids if isinstance(self._device, ScriptDevice) else ()

    def _run(
        self, config: RunConfig, began: Callable[[int], None], goes_on: Checkpoint | None
    ) -> RunRecord | RunRefused:
        try:
            self.check_data(config)
            self._check_own(config)
            where = find(config, self._nvml, self._closing.is_set, self._launched, self._environ, self._attached)
        except ConfigError as error:
            return self._refuse(RunRefused(run_id=None, config=config, knob=error.knob, message=error.message))
        if config.trains:  # what answers may be what was trained before
            self._kept = None
        config, device = where.config, where.device
        with self._placing:
            self._use(device)
        self._host = HostLoad()
        where.reset_peaks()  # before the sampler can take a reading for this run
        started_at = time.time()
        run_id = self._history.writer.begin_run(config, device.info, started_at)
        self._run_id = run_id
        began(run_id)
        started = RunStarted(run_id=run_id, config=config, device=device.info, started_at=started_at)
        self._emit(started)
        if device.info.kind == "cuda" and config.trains:
            self._asked.count(started)
        if where.note is not None:
            self._emit(Logged(source="engine", text=where.note, level="warning"))
        self._neighbours.begin()
        for card, others in self._neighbours.look():
            shared = f"{card.numbers} is shared with {who(others)}: time and memory are not this run's alone."
            self._emit(Logged(source="engine", text=shared, level="warning"))
        record = replace(new_record(run_id, config, device.info, started_at), host=platform.node())
        try:
            run = where.make(
                record=record,
                hub=self._hub,
                emit=self._emit,
                should_stop=self._stop_run.is_set,
                why_stopped=lambda: self._why_stopped,
                host=HostLoad.over(list(self._host_before)),
                goes_on=goes_on,
                keeps_model=self._keeps_model,
                **({"own_model": self._own_model} if config.answers else {}),
                **({"times_stopped": lambda: self._times_stopped} if config.is_script else {}),
            )
            self._place = run.place
            record = run.execute()
            if config.trains:
                self._kept = KeptModel(record, run.kept, device.info.kind) if self._keeps_model else None
        except ConfigError as error:
            self._drop(run_id)
            return self._refuse(RunRefused(run_id=run_id, config=config, knob=error.knob, message=error.message))
        # a run does not hear the sampler; one that ended between two of its readings has what came before
        host = self._host if self._host.n else HostLoad.over(list(self._host_before))
        record = replace(record, host_cores=host.cores, host_free_cores=host.free)
        self._neighbours.look()
        return self._finish(self._neighbours.end(self._with_forecasts(record)))

    def _own_model(self, name: str) -> OwnModel:
        """The model of an earlier run by its name, `run:12`. Raises `ConfigError`."""
        from engine.training.own_models import find

        return find(name, self._history.run, self._kept)

    def _check_own(self, config: RunConfig) -> None:
        """Raise `ConfigError` where a model that a run is to have trained is not there."""
        if config.is_script:
            return
        if config.trains and is_own(config.model):
            fix = "use --job answer, or the run's output folder to train on with it"
            raise ConfigError("model", f"--model {config.model} is a model to be asked: {fix}.")
        if is_own(config.model):
            self._own_model(config.model)
        if config.draft_model is not None and is_own(config.draft_model):
            with of_draft_model():
                self._own_model(config.draft_model)

    def _with_forecasts(self, record: RunRecord) -> RunRecord:
        """What a forecast adds to a run that trained: MFU on a real GPU, the card's own speed on a virtual one.

        It is made after the training, of which it takes no time.
        """
        if (
            self._forecasts is None
            or not record.config.trains
            or record.samples_per_s is None
            or self._closing.is_set()
        ):
            return record
        try:
            record = replace(record, forecast_samples_per_s=self._forecasts.card_speed(record.config))
            counted = self._forecasts.count(record.run_id, record.config) if record.tokens_per_s is not None else None
        except Exception:  # a defect of the forecast must not take the run's row
            log.exception("the forecast of run %s failed", record.run_id)
            return record
        if counted is None or record.tokens_per_s is None:
            return record
        return replace(record, mfu=counted.mfu(record.tokens_per_s))

    def _refuse(self, refused: RunRefused) -> RunRefused:
        self._emit(refused)
        return refused

    def _drop(self, run_id: int) -> None:
        try:
            self._history.writer.drop_run(run_id)
        except HistoryError as error:
            self._report_history(str(error))

    def _finish(self, record: RunRecord) -> RunRecord:
        try:
            self._history.writer.finish_run(record)
        except HistoryError as error:
            self._report_history(str(error))
        if self._forecasts:
            self._forecasts.forget_learned()
        self._emit(RunFinished(record=record))
        return record

    @staticmethod
    def _sentence(error: Exception) -> str:
        from engine.training.failures import sentence

        return sentence(error)

    def _abandon(self, config: RunConfig, why: str) -> RunRecord | RunRefused:
        """End a run that broke outside its own handling, so that nobody waits for it."""
        if self._run_id is None:
            message = f"The run could not begin: {why}"
            return self._refuse(RunRefused(run_id=None, config=config, knob="", message=message))
        record = RunRecord(run_id=self._run_id, config=config, outcome=Outcome.FAILED, message=why[:300])
        device = self._device.info if self._device else None
        return self._finish(replace(record, device=device, host=platform.node()))

    # forecasts for the runs to come -----------------------------------------------------------------------------

    def _speed_by_forecast(self, config: RunConfig) -> float | None:
        return self._forecasts.speed(config) if self._forecasts else None

    def _earlier_runs(self) -> Sequence[RunRecord]:
        return self._history.runs()

    def _forecast_is_hopeless(self, config: RunConfig) -> str | None:
        return self._forecasts.hopeless(config) if self._forecasts else None

    def _foretell(self, plan: Plan) -> Plan:
        """The plan with the forecasts of its rows; without them where they cannot be made."""
        if self._forecasts is None:
            return plan
        if plan.name in NAMED:
            self._emit(Logged(source="plan", text=f"{plan.title}: its rows are forecast first"))
        try:
            return self._forecasts.foretell(plan, self._stop_run.is_set)
        except Exception:  # a defect of ours must not end the plan: its runs need no forecast
            log.exception("a plan could not be forecast")
            return plan

    # the other threads ------------------------------------------------------------------------------------------

    def _on_sample(self, gpus: tuple[GpuSample | None, ...], host: HostSample) -> None:
        run_id, since = self._run_id, self._training_since  # first: a reading from before a run is none of it
        device = self._device
        try:
            memory = device.memory_if_known() if device else Memory()
            t = time.perf_counter() - since if since is not None else None
            self._host_before.append(host)
            if t is not None:
                self._host = self._host.plus(host)
            place = self._place() if t is not None else None
            gpu, several = gpus[0] if gpus else None, gpus if len(gpus) > 1 and any(gpus) else ()
            self._emit(Sampled(run_id=run_id, t=t, gpu=gpu, host=host, memory=memory, place=place, gpus=several))
            self._neighbours.look()
        finally:  # whatever a reading meets, what happened is written
            self._flush()

    def _know(self, job: BatchJob) -> None:
        self._limit.job = job
        self._emit(JobKnown(job=job))

    def _on_output(self, line: str) -> None:
        log.info("%s", line)
        self._emit(Logged(source="output", text=line))

    # any thread -------------------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self._host = HostLoad()
            self._training_since = time.perf_counter() - event.resumed_s
            self._neighbours.training(True)
        elif isinstance(event, ScriptKnown) and self._training_since is None:
            self._host = HostLoad()
            self._training_since = time.perf_counter() - event.t
            self._watch_script(event)
            self._neighbours.training(True)
        elif isinstance(event, ScriptKnown):
            self._watch_script(event)
        elif isinstance(event, AnsweringStarted):
            self._host = HostLoad()
            self._training_since = time.perf_counter()
            self._neighbours.training(True)
        elif isinstance(event, (RequestDone, BatchScored)) and event.warmup:
            self._host = HostLoad()
            self._neighbours.warmed_up()
        elif isinstance(event, MemoryMoment) and event.moment in ("trained", "answered"):
            self._neighbours.training(False)
        elif isinstance(event, RanksStarted):
            self._sampler.select(*(device.uuid for device in self._neighbours.started(event.ranks)))
        self._mailbox.put(event)
        self._history.writer.append(event)

    def _watch_script(self, known: ScriptKnown) -> None:
        """It is known now where it computes. Several processes are told as ranks, with their cards."""
        if isinstance(self._device, ScriptDevice) and (known.n_processes or 1) == 1:
            self._watch((self._device.info,))

    def _flush(self) -> None:
        if problem := self._history.writer.flush():
            self._report_history(problem)
        if self._history.writer.failure is None:
            self._history_told = None
        moved_to = self._history.moved_to
        state = HistoryState(problem=self._history.writer.failure, moved_to=str(moved_to) if moved_to else None)
        if state != self._history_state:
            self._history_state = state
            self._mailbox.put(state)

    def _report_history(self, problem: str) -> None:
        """Tell what is wrong with the history; the same words again only once it was well meanwhile."""
        with self._lock:  # the engine's thread meets at a run's end what the sampler's meets at every flush
            told, self._history_told = self._history_told, problem
        if told == problem:
            return
        log.error("history: %s", problem)
        self._mailbox.put(Logged(source="history", text=problem, level="error"))
