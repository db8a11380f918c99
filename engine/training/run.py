"""One run from its configuration to its record: load, train, and whatever goes wrong, as an outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, MemoryMoment, RunProgress, TrainingStarted
from engine.contract.host_load import HostLoad, is_busy, taken
from engine.contract.presets import model_name
from engine.contract.records import Outcome, Phase, Place, RunRecord
from engine.contract.run_figures import RunFigures
from engine.contract.stop_reason import BY_USER, stopped
from engine.devices.base import Device
from engine.process import gate
from engine.process.heap import keeping_pages
from engine.process.machine import Machine
from engine.process.openmp import threads_to_use
from engine.techniques import attention, checkpointing, compiling, cross_entropy, lora, offloading, packing, refusals
from engine.techniques.bucketing import epoch_order, scoring_order
from engine.techniques.optimizers import build_optimizer, build_schedule
from engine.techniques.optimizers import note as optimizer_note
from engine.techniques.preloading import build_loader
from engine.techniques.stopping import Stoppable, Stopped
from engine.training import failures, models
from engine.training.hub import Hub
from engine.training.job import Job, planned_updates
from engine.training.trainer import NonFiniteLoss, train
from engine.workloads.facts import remember
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData

log = logging.getLogger("traintop")

End: TypeAlias = "tuple[Outcome, str | None] | ConfigError"
"""How a run ended, with a sentence where there is something to say, or why it could not begin."""


@dataclass(kw_only=True)
class Run:
    """A run under way: what was loaded, and what its events have said so far."""

    record: RunRecord
    """The run as it began."""
    device: Device
    hub: Hub
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    why_stopped: Callable[[], str] = lambda: BY_USER
    """Once it should stop: one of `engine.contract.stop_reason`."""
    host: HostLoad = field(default_factory=HostLoad)
    """What others took of the host just before."""
    job: Job | None = None

    def __post_init__(self) -> None:
        self._figures = RunFigures(self.record)
        self._failed_phase: Phase | None = None
        self._said: str | None = None

    def execute(self) -> RunRecord:
        """Run to the end. Never raises: what goes wrong is in the record's outcome and message.

        The device's peaks are those of this run: `Device.reset_peaks` was called.
        Raises `ConfigError` before training when the model or the data cannot be used. The memory is given back then
        too.
        """
        end = self._attempt()
        self._close()
        if isinstance(end, ConfigError):
            raise end
        outcome, message = end
        return replace(self._figures.as_record(), outcome=outcome, message=message, failed_phase=self._failed_phase)

    def place(self) -> Place | None:
        """Where it is within a long step; None where that is not known. Any thread may ask."""
        job = self.job
        return None if job is None or self.device.runs_ahead else job.whereabouts.place()

    def _attempt(self) -> End:
        """Load and train. What fails after the first error, as all does on a lost device, does not hide it."""
        end: End | None = None
        try:
            with ExitStack() as stack:
                self._moment("start")
                stack.enter_context(gate.threads(self._threads()))
                if self.device.torch_device.type == "cpu":
                    stack.enter_context(keeping_pages())
                stack.enter_context(self.device.settings(self.record.config))
                stack.enter_context(attention.kernel(self.record.config, self.device))
                stack.enter_context(compiling.forgotten_after(self.record.config))
                stack.enter_context(self.device.tracking())
                end = self._load_and_train()
        except Exception as error:
            if end is None:
                return self._describe(error)
            log.error("run %s left switches behind", self.record.run_id, exc_info=error)
        assert end is not None
        return end

    def _load_and_train(self) -> End:
        try:
            self._load()
            assert self.job is not None
            finished = train(self.job)
            self.device.synchronize()
        except Exception as error:  # stored as text: an exception holds its frames, and those hold tensors
            return self._describe(error)
        return (Outcome.COMPLETED, None) if finished else (Outcome.STOPPED, stopped(self.why_stopped()))

    def _threads(self) -> int:
        """Those that are free, where it is the CPU that computes."""
        free = self.host.free if self.device.torch_device.type == "cpu" else None
        return threads_to_use(torch.get_num_threads(), Machine().threads(), free)

    def _say_how_busy(self) -> None:
        cores, free = self.host.cores, self.host.free
        if cores is None or free is None or not is_busy(cores, free, self.device.info, self.record.config):
            return
        n = torch.get_num_threads()
        with_threads = f"computes with {n} thread{'s' if n > 1 else ''} and " if not self.device.runs_ahead else ""
        self._say(Phase.LOAD, f"Host busy: {taken(cores, free)}; this run {with_threads}is slower than on a quiet one.")

    def _load(self) -> None:
        config, run_id = self.record.config, self.record.run_id
        self._say_how_busy()
        self.device.create_context()
        self._moment("context")
        self._say(Phase.LOAD, f"looking for {model_name(config.model)}")
        source = models.resolve(config.model, self.hub)
        models.check_length(source, config)
        self._stop_if_asked()
        data = self._prepare(source)
        self._say(Phase.LOAD, source.note)
        torch.manual_seed(config.seed)
        shaped = models.shape(source, config, n_labels=data.n_labels, vocab_size=data.vocab_size)
        with Stoppable(self.should_stop):
            built = models.build(source, shaped, config)
            if note := attention.note(built, config):
                self._say(Phase.LOAD, note)
            packing.check(built, config)
            model = lora.apply(built, config)
        if config.lora_rank:
            self._say(Phase.LOAD, lora.note(model, config))
        checkpointing.apply(model, config)
        cross_entropy.apply(model, config)
        self.device.adopt(model)
        offloading.apply(model, config, partial(self.device.host, config), Machine().memory().available)
        self._stop_if_asked()
        attention.check(model, data.collate([data.train[0]]), config, self.device)
        compiling.apply(model, config, len(data.train))
        self._moment("model")
        self.job = self._job(model, data)
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        self._tell(
            TrainingStarted(
                run_id=run_id,
                n_parameters=n_parameters,
                n_train=len(data.train),
                n_eval=len(data.evaluation) if data.evaluation is not None else 0,
                planned_updates=self.job.planned_updates,
                micro_steps_per_epoch=self.job.micro_steps_per_epoch,
                threads=torch.get_num_threads(),
                majority=data.majority,
            )
        )

    def _prepare(self, source: models.ModelSource) -> PreparedData:
        wanted = models.wants(source)
        data = prepare(self.record.config, **wanted, hub=self.hub, report=lambda detail: self._say(Phase.DATA, detail))
        remember(self.record.config, data.shape, **wanted)
        for note in data.notes:
            self._say(Phase.DATA, note)
        return data

    def _job(self, model: torch.nn.Module, data: PreparedData) -> Job:
        config, device = self.record.config, self.device
        order = epoch_order(config, data.train.lengths())
        loader = build_loader(config, data.train, data.collate, order=order, pin=device.pins_memory)
        evaluation = None
        if data.evaluation is not None:
            held_out_order = scoring_order(config, data.evaluation.lengths())
            evaluation = build_loader(
                config, data.evaluation, data.collate, order=held_out_order, pin=device.pins_memory
            )
        n_workers, n_cores = config.dataloader_num_workers, Machine().threads()
        if n_workers > n_cores:
            self._say(
                Phase.DATA,
                f"{n_workers} data-loader workers share {n_cores} core{'s' if n_cores > 1 else ''}: "
                f"--dataloader-num-workers {n_cores} prepares as much.",
            )
        optimizer = build_optimizer(config, model.parameters(), enter=self._enter)
        if note := optimizer_note(config, device.torch_device.type):
            self._say(Phase.LOAD, note)
        return Job(
            run_id=self.record.run_id,
            config=config,
            device=device,
            model=model,
            optimizer=optimizer,
            schedule=build_schedule(config, optimizer, planned_updates(config, len(loader))),
            precision=device.precision(config),
            loader=loader,
            order=order,
            eval_loader=evaluation,
            emit=self._tell,
            should_stop=self.should_stop,
        )

    def _enter(self, phase: Phase) -> None:
        if self.job is not None:
            self.job.clock.enter(phase)

    def _tell(self, event: Event) -> None:
        self._figures.add(event)
        self.emit(event)

    def _describe(self, error: Exception) -> End:
        """What an error makes of the run; the traceback of a defect goes to the log file."""
        if isinstance(error, ConfigError):
            return ConfigError(error.knob, error.message)  # without the frames
        if isinstance(error, Stopped):
            return Outcome.STOPPED, stopped(self.why_stopped(), loading=self.job is None)
        if isinstance(error, NonFiniteLoss):
            return Outcome.FAILED, str(error)
        phase = self.job.clock.phase if self.job else Phase.LOAD
        self._failed_phase = phase
        outcome, message = failures.described(error, self._where(phase), self.device)
        if outcome is Outcome.FAILED:
            log.error("run %s failed in %s", self.record.run_id, phase.noun, exc_info=error)
        return outcome, message

    def _where(self, phase: Phase) -> str:
        """`in forward of micro-step 3 (update 2)`."""
        if self.job is None or not self.job.micro_step:
            return f"in {phase.noun}"
        if phase is Phase.EVALUATE:
            return f"in {phase.noun} after update {self.job.update}"
        return f"in {phase.noun} of micro-step {self.job.micro_step} (update {self.job.update + 1})"

    def _close(self) -> None:
        """Read the peaks, then give the memory back: outside the `except`, references dropped first. Never raises."""
        self._moment("trained" if self.job is not None else "end")
        if self.job is not None:
            self.job.optimizer.zero_grad(set_to_none=True)
            self.job = None
        try:
            self.device.clean_up()
        except Exception as error:  # on a lost device; why it was lost is in the record
            log.error("the device could not be cleaned up after run %s", self.record.run_id, exc_info=error)

    def _moment(self, moment: str) -> None:
        self._tell(MemoryMoment(run_id=self.record.run_id, moment=moment, memory=self.device.memory_if_known()))

    def _say(self, phase: Phase, detail: str) -> None:
        """Tell what takes time; the same words again are not repeated. Raises `Stopped` where that was asked for."""
        if detail != self._said:
            self._said = detail
            self._tell(RunProgress(run_id=self.record.run_id, phase=phase, detail=detail))
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.should_stop():
            raise Stopped


def refuse_early(config: RunConfig, device: Device) -> None:
    """Refusals that need no model and no data. Raises `ConfigError`."""
    device.refuse(config)
    refusals.refuse(config, device)


def quiet_libraries() -> None:
    """No progress bars: what a library draws with carriage returns is noise in a log."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
