"""One run from its configuration to its record: load, train, and whatever goes wrong, as an outcome."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import EvalDone, Event, MemoryMoment, RunProgress, TrainingStarted, UpdateDone
from engine.contract.records import Outcome, Phase, RunRecord
from engine.contract.throughput import steady
from engine.devices.base import Device
from engine.techniques import attention, checkpointing, compiling, lora, packing, refusals
from engine.techniques.bucketing import epoch_order, scoring_order
from engine.techniques.optimizers import build_optimizer, build_schedule
from engine.techniques.optimizers import note as optimizer_note
from engine.techniques.preloading import build_loader
from engine.training import models
from engine.training.hub import Hub
from engine.training.trainer import Job, NonFiniteLoss, planned_updates, train
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData

log = logging.getLogger("traintop")


@dataclass(kw_only=True)
class Run:
    """A run under way: what was loaded, and what its events have said so far."""

    record: RunRecord
    device: Device
    hub: Hub
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    job: Job | None = None

    def __post_init__(self) -> None:
        self._losses: list[float] = []
        self._rates: list[float] = []
        self._samples = self._tokens = 0

    def execute(self) -> RunRecord:
        """Run to the end. Never raises: what goes wrong is in the record's outcome and message.

        Raises `ConfigError` before training when the model or the data cannot be used.
        """
        self.device.reset_peaks()
        self._moment("start")
        failure: tuple[Outcome, str | None] | None = None
        began = None
        finished = False
        try:
            with ExitStack() as stack:
                stack.enter_context(self.device.settings(self.record.config))
                stack.enter_context(attention.kernel(self.record.config, self.device))
                stack.enter_context(compiling.forgotten_after(self.record.config))
                stack.enter_context(self.device.tracking())
                self._load()
                began = time.perf_counter()
                assert self.job is not None
                finished = train(self.job)
                self.device.synchronize()
        except ConfigError:
            raise
        except Exception as error:  # stored as text: an exception holds its frames, and those hold tensors
            failure = self._describe(error)
        runtime = time.perf_counter() - began if began is not None else None
        self._close(runtime)
        if failure is None:
            failure = (Outcome.COMPLETED, None) if finished else (Outcome.STOPPED, "Stopped by the user.")
        outcome, message = failure
        return replace(self.record, outcome=outcome, message=message)

    def _load(self) -> None:
        config, run_id = self.record.config, self.record.run_id
        self.device.create_context()
        self._moment("context")
        self._say(Phase.LOAD, f"looking for {config.model}")
        source = models.resolve(config.model, self.hub)
        models.check_length(source, config)
        data = self._prepare(source)
        self._say(Phase.LOAD, source.note)
        torch.manual_seed(config.seed)
        shaped = models.shape(source, config, n_labels=data.n_labels, vocab_size=data.vocab_size)
        built = models.build(source, shaped, config)
        packing.check(built, config)
        model = lora.apply(built, config)
        if config.lora_rank:
            self._say(Phase.LOAD, lora.note(model, config))
        checkpointing.apply(model, config)
        self.device.adopt(model)
        attention.check(model, data.collate([data.train[0]]), config, self.device)
        compiling.apply(model, config, len(data.train))
        self._moment("model")
        self.job = self._job(model, data)
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        planned = self.job.planned_updates
        self.record = replace(self.record, n_parameters=n_parameters, planned_updates=planned)
        self.emit(
            TrainingStarted(
                run_id=run_id,
                n_parameters=n_parameters,
                n_train=len(data.train),
                n_eval=len(data.evaluation) if data.evaluation is not None else 0,
                planned_updates=planned,
                micro_steps_per_epoch=self.job.micro_steps_per_epoch,
            )
        )

    def _prepare(self, source: models.ModelSource) -> PreparedData:
        text = source.config.get_text_config()
        data = prepare(
            self.record.config,
            tokenizer=source.tokenizer,
            model_vocab_size=text.vocab_size,
            pad_token_id=text.pad_token_id,
            hub=self.hub,
            report=lambda detail: self._say(Phase.DATA, detail),
        )
        for note in data.notes:
            self._say(Phase.DATA, note)
        return data

    def _job(self, model: torch.nn.Module, data: PreparedData) -> Job:
        config, device = self.record.config, self.device
        order = epoch_order(config, data.train)
        loader = build_loader(config, data.train, data.collate, order=order, pin=device.pins_memory)
        evaluation = None
        if data.evaluation is not None:
            held_out_order = scoring_order(config, data.evaluation)
            evaluation = build_loader(
                config, data.evaluation, data.collate, order=held_out_order, pin=device.pins_memory
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
            emit=self._observe,
            should_stop=self.should_stop,
        )

    def _enter(self, phase: Phase) -> None:
        if self.job is not None:
            self.job.clock.enter(phase)

    def _observe(self, event: Event) -> None:
        """Fold the trainer's events into the record, and pass them on."""
        if isinstance(event, UpdateDone):
            self._losses.append(event.loss)
            self._samples += event.n_samples
            self._tokens += event.n_tokens
            if not event.warmup and event.update_s > 0:
                self._rates.append(event.n_samples / event.update_s)
            self.record = replace(self.record, updates=event.update, last_loss=event.loss)
        elif isinstance(event, EvalDone):
            self.record = replace(
                self.record, eval_accuracy=event.accuracy, eval_loss=event.loss, n_eval=event.n_samples
            )
        self.emit(event)

    def _describe(self, error: Exception) -> tuple[Outcome, str]:
        """Outcome and sentence of an error; the traceback of a defect goes to the log file."""
        if isinstance(error, NonFiniteLoss):
            return Outcome.FAILED, str(error)
        phase = self.job.clock.phase if self.job else Phase.LOAD
        self.record = replace(self.record, failed_phase=phase)
        if self.device.is_out_of_memory(error):
            where = f"in {phase.value}"
            if self.job and self.job.micro_step:
                where += f" of micro-step {self.job.micro_step} (update {self.job.update + 1})"
            return Outcome.OUT_OF_MEMORY, f"Out of memory {where}: {self.device.describe_out_of_memory(error)}"
        log.error("run %s failed in %s", self.record.run_id, phase.value, exc_info=error)
        lines = str(error).strip().splitlines() or [""]
        fix = (
            "Restart traintop: the GPU's context is lost."
            if "CUDA error" in str(error)
            else "Details are in the log file."
        )
        return Outcome.FAILED, f"Failed in {phase.value}: {type(error).__name__}: {lines[0][:300]}. {fix}"

    def _close(self, runtime: float | None) -> None:
        """Take the last figures, then give the memory back: outside the `except`, references dropped first."""
        memory = self.device.memory()
        rate = steady(self._rates)
        self.record = replace(
            self.record,
            train_runtime_s=runtime,
            samples_per_s=self._samples / runtime if runtime and self._samples else None,
            steady_samples_per_s=rate.samples_per_s if rate else None,
            steady_spread=rate.spread if rate else None,
            tokens_per_s=rate.samples_per_s * self._tokens / self._samples if rate else None,
            train_loss=sum(self._losses) / len(self._losses) if self._losses else None,
            peak_used=memory.peak_used,
            peak_reserved=memory.peak_reserved,
            peak_allocated=memory.peak_allocated,
            memory_total=memory.total,
        )
        if runtime is not None:
            self._moment("trained")
        if self.job is not None:
            self.job.optimizer.zero_grad(set_to_none=True)
            self.job = None
        gc.collect()
        self.device.clean_up()

    def _moment(self, moment: str) -> None:
        self.emit(MemoryMoment(run_id=self.record.run_id, moment=moment, memory=self.device.memory()))

    def _say(self, phase: Phase, detail: str) -> None:
        self.emit(RunProgress(run_id=self.record.run_id, phase=phase, detail=detail))


def refuse_early(config: RunConfig, device: Device) -> None:
    """Refusals that need no model and no data. Raises `ConfigError`."""
    device.refuse(config)
    refusals.refuse(config, device)


def quiet_libraries() -> None:
    """No progress bars: what a library draws with carriage returns is noise in a log."""
    import datasets
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
