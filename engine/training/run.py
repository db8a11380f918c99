"""One run from its configuration to its record: load, train, and whatever goes wrong, as an outcome."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.confusion import MOST_CLASSES
from engine.contract.events import Event, TrainingStarted
from engine.contract.host_load import HostLoad
from engine.contract.idle import idle
from engine.contract.numbers import n_of
from engine.contract.presets import model_name
from engine.contract.records import Outcome, Phase, Place, RunRecord
from engine.contract.stop_reason import BY_USER, stopped
from engine.devices.base import Device
from engine.process.machine import Machine
from engine.techniques import (
    attention,
    checkpointing,
    class_loss,
    compiling,
    cross_entropy,
    lora,
    offloading,
    optimizer_state,
    packing,
    quantised,
)
from engine.techniques.bucketing import epoch_order, scoring_order
from engine.techniques.decay import groups_of
from engine.techniques.optimizers import note as optimizer_note
from engine.techniques.parallel.together import Together
from engine.techniques.preloading import build_loader, end_workers
from engine.techniques.schedules import build_schedule
from engine.techniques.stopping import Stoppable, Stopped
from engine.training import failures, models
from engine.training.attempt import End, attempt, clean_up, free_threads
from engine.training.hub import Hub
from engine.training.job import Job, planned_updates
from engine.training.saving.keeper import Keeper
from engine.training.saving.model_folder import Trained
from engine.training.saving.output import prepare_output
from engine.training.saving.places import Checkpoint
from engine.training.saving.resuming import go_on, put_back_random_of, words
from engine.training.saving.state import data_fingerprint
from engine.training.saving.unchanged import refuse_other_data
from engine.training.telling import Telling
from engine.training.trainer import NonFiniteLoss, train
from engine.workloads.facts import remember
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData

log = logging.getLogger("traintop")

MOST_OF_HOST = 0.5
"""A model that was trained on a GPU is kept in the host's memory where it takes no larger share of what is free."""


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
    goes_on: Checkpoint | None = None
    """What it goes on with."""
    together: Together = field(default_factory=Together)
    """The ranks that it is one of; alone as a rule."""
    keeps_model: bool = False
    """Whether the trained model stays in the host's memory, as `kept`."""
    kept: Trained | None = field(default=None, init=False)
    job: Job | None = None

    def __post_init__(self) -> None:
        self._telling = Telling(
            record=self.record, device=self.device, emit=self._pass_on, should_stop=lambda: self.should_stop()
        )
        self._failed_phase: Phase | None = None
        self._keeper: Keeper | None = None
        self._trained: Trained | None = None

    def execute(self) -> RunRecord:
        """Run to the end. Never raises: what goes wrong is in the record's outcome and message.

        The device's peaks are those of this run: `Device.reset_peaks` was called.
        Raises `ConfigError` before training when the model or the data cannot be used. The memory is given back then
        too.
        """
        end = attempt(self._telling, self._threads, self._load_and_train, self._describe)
        self._close()
        if isinstance(end, ConfigError):
            raise end
        outcome, message = end
        return replace(
            self._telling.figures.as_record(), outcome=outcome, message=message, failed_phase=self._failed_phase
        )

    def so_far(self) -> RunRecord:
        """What its events have told until now. Any thread may ask."""
        return self._telling.figures.as_record()

    def place(self) -> Place | None:
        """Where it is within a long step; None where that is not known. Any thread may ask."""
        job = self.job
        return None if job is None or self.device.runs_ahead else job.whereabouts.place()

    def _load_and_train(self) -> End:
        try:
            self._load()
            assert self.job is not None
            put_back_random_of(self.job, self.device.torch_device)
            finished = train(self.job)
            self.device.synchronize()
            if finished and self._keeper is not None:
                self._keeper.at_end(self.job.update)
        except Exception as error:  # stored as text: an exception holds its frames, and those hold tensors
            return self._describe(error)
        if not finished:
            return Outcome.STOPPED, stopped(self.why_stopped())
        ended_early = self.job.best.gives_up and self.job.update < self.job.planned_updates
        return Outcome.COMPLETED, self.job.best.sentence() if ended_early else None

    def _threads(self) -> int:
        """Those that are free, where it is the CPU that computes; of a run that goes on as many as before."""
        if self.goes_on is not None and self.device.torch_device.type == "cpu":
            return self.goes_on.threads
        return free_threads(self.device, self.host)

    def _load(self) -> None:
        config, run_id = self.record.config, self.record.run_id
        if self.together.rank == 0:
            prepare_output(config, run_id, self.goes_on)
        self._telling.say_how_busy(self.host)
        self.device.create_context()
        self._telling.moment("context")
        self._telling.say(Phase.LOAD, f"looking for {model_name(config.model)}")
        with self.together.first():
            source = models.resolve(config.model, self.hub)
            models.check_head(source.config, config)
            models.check_length(source, config)
            self._telling.stop_if_asked()
            data = self._prepare(source)
            if self.together.world_size > 1:
                models.fetch(source, config)
        fingerprint = data_fingerprint(data) if config.save_steps or self.goes_on is not None else ""
        if self.goes_on is not None:
            refuse_other_data(self.goes_on, fingerprint)
        self._telling.say(Phase.LOAD, source.note)
        for sentence in idle(config):
            self._telling.say(Phase.LOAD, sentence)
        torch.manual_seed(config.seed)
        shaped = models.shape(source, config, n_labels=data.n_labels, vocab_size=data.vocab_size)
        with Stoppable(self.should_stop):
            built = models.build(source, shaped, config)
            if note := attention.note(built, config):
                self._telling.say(Phase.LOAD, note)
            packing.check(built, config)
            model = lora.apply(built, config)
        if config.lora_rank:
            self._telling.say(Phase.LOAD, lora.note(model, config))
        if note := quantised.note(model, config):
            self._telling.say(Phase.LOAD, note)
        checkpointing.apply(model, config)
        class_loss.apply(model, config, class_weights_of(config, data))
        cross_entropy.apply(model, config)
        with self.device.on_host():
            sample = data.collate([data.train[0]])
        self.together.divide(model, config, sample, self.device.torch_device, self.device.dividing)
        self.device.adopt(model)
        offloading.apply(model, config, partial(self.device.host, config), Machine().memory().available)
        self._telling.stop_if_asked()
        attention.check(model, sample, config, self.device)
        compiling.apply(model, config, len(data.train))
        self._telling.moment("model")
        self.job = self._job(model, data)
        self._trained = Trained(
            model=model,
            source=source,
            tokenizer=data.tokenizer,
            label_names=data.label_names,
            notes=(*data.notes, source.note),
        )
        keeper = self._new_keeper(self._trained, fingerprint)
        told = self._go_on(self.job, keeper)
        self._telling.tell(
            TrainingStarted(
                run_id=run_id,
                n_parameters=quantised.n_parameters(model),
                n_train=len(data.train),
                n_eval=len(data.evaluation) if data.evaluation is not None else 0,
                planned_updates=self.job.planned_updates,
                micro_steps_per_epoch=self.job.micro_steps_per_epoch,
                threads=torch.get_num_threads(),
                majority=data.majority,
                label_names=data.label_names if len(data.label_names) <= MOST_CLASSES else (),
                resumed_from=None if self.goes_on is None else self.goes_on.run_id,
                resumed_at=None if self.goes_on is None else self.goes_on.update,
                resumed_s=self.job.trained_s,
            )
        )
        for event in told:
            self._telling.tell(event)
        self._keeper = self.job.keeper = keeper

    def _new_keeper(self, trained: Trained, fingerprint: str) -> Keeper | None:
        config = self.record.config
        if not config.save_steps and config.output_dir is None:
            return None
        return Keeper(
            trained=trained,
            data=fingerprint,
            emit=self._telling.tell,
            record=self._telling.figures.as_record,
            on_host=self.device.on_host,
            together=self.together,
        )

    def _go_on(self, job: Job, keeper: Keeper | None) -> list[Event]:
        """Put the job where the run stood that this one goes on with; what that one told."""
        if self.goes_on is None:
            return []
        self._telling.say(Phase.LOAD, words(self.goes_on))
        with self.device.on_host():
            told = go_on(job, keeper, self.goes_on)
        self.device.adopt_states(optimizer_state.tensors(job.together.stepping(job.optimizer)))
        return told

    def _prepare(self, source: models.ModelSource) -> PreparedData:
        wanted = models.wants(source)
        data = prepare(
            self.record.config, **wanted, hub=self.hub, report=lambda detail: self._telling.say(Phase.DATA, detail)
        )
        remember(self.record.config, data.shape, **wanted)
        for note in data.notes:
            self._telling.say(Phase.DATA, note)
        return data

    def _job(self, model: torch.nn.Module, data: PreparedData) -> Job:
        config, device = self.record.config, self.device
        world_size = self.together.world_size
        order = self.together.part(epoch_order(config, data.train.lengths(), world_size))
        loader = build_loader(config, data.train, data.collate, order=order, pin=device.pins_memory)
        evaluation, eval_batches = None, math.inf
        if data.evaluation is not None:
            lengths = data.evaluation.lengths()
            held_out_order, eval_batches = self.together.held_out(
                scoring_order(config, lengths), len(lengths), config.batch_size
            )
            evaluation = build_loader(
                config, data.evaluation, data.collate, order=held_out_order, pin=device.pins_memory
            )
        n_workers, n_cores = config.dataloader_num_workers, Machine().threads()
        if n_workers > n_cores:
            self._telling.say(
                Phase.DATA,
                f"{n_of(n_workers, 'data-loader worker')} share {n_of(n_cores, 'core')}: "
                f"--dataloader-num-workers {n_cores} prepares as much.",
            )
        with self.device.sharing():
            wrapped = self.together.wrap(model, config, self._wait)
        optimizer = self.together.optimizer(config, groups_of(config, model), self._enter)
        if self.together.note is not None:
            self._telling.say(Phase.LOAD, self.together.note)
        if note := optimizer_note(config, device.torch_device.type):
            self._telling.say(Phase.LOAD, note)
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
            eval_batches=eval_batches,
            emit=self._telling.tell,
            should_stop=self.should_stop,
            together=self.together,
            wrapped=None if wrapped is model else wrapped,
            threads=torch.get_num_threads(),
        )

    def _enter(self, phase: Phase) -> None:
        if self.job is not None:
            self.job.clock.enter(phase)

    def _wait(self, begins: bool) -> None:
        if self.job is not None:
            self.job.clock.wait(begins)

    def _pass_on(self, event: Event) -> None:
        if self._keeper is not None:
            self._keeper.take(event)
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
        self._telling.moment("trained" if self.job is not None else "end")
        if self.job is not None:
            self.job.optimizer.zero_grad(set_to_none=True)
            end_workers(self.job.loader)
            if self.job.eval_loader is not None:
                end_workers(self.job.eval_loader)
            if self.keeps_model and self.job.update:
                self._keep_on_host()
        self.job = self._keeper = self._trained = None
        clean_up(self.device, self.record.run_id)

    def _keep_on_host(self) -> None:
        """Keep the model where its memory is not the device's, or a small part of the host's. Never raises."""
        trained, free = self._trained, Machine().memory().available
        if trained is None:
            return
        if self.device.torch_device.type != "cpu":
            size = sum(parameter.numel() * parameter.element_size() for parameter in trained.model.parameters())
            if free is not None and size > free * MOST_OF_HOST:
                return
            try:
                trained.model.to("cpu")
            except Exception as error:  # on a lost device, or a host that lacks the memory after all
                log.warning("the model of run %s is not kept", self.record.run_id, exc_info=error)
                return
        self.kept = trained


def class_weights_of(config: RunConfig, data: PreparedData) -> torch.Tensor | None:
    """A weight for every class, where they are to have any."""
    if config.class_weights == "none" or data.train.classes is None:
        return None
    return torch.tensor(class_loss.balanced(data.train.classes, data.n_labels))


def quiet_libraries() -> None:
    """No progress bars: what a library draws with carriage returns is noise in a log."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
