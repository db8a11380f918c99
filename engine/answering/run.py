"""One answering run from its configuration to its record: load, answer, and whatever goes wrong, as an outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from engine.answering import answer, comparing, loading
from engine.answering.generation import own_settings
from engine.answering.job import AnswerJob
from engine.answering.prompts import Prompts, prepare_prompts
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import AnsweringStarted, Event, MemoryMoment, RunProgress
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
from engine.techniques import attention, compiling, quantised, refusals
from engine.techniques.generation.caches import kv_bytes_per_token
from engine.techniques.stopping import Stoppable, Stopped
from engine.training import failures
from engine.training.hub import Hub
from engine.training.run import End
from engine.training.saving.model_folder import Trained
from engine.workloads.tokens.vocabulary import pad_token_id_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("traintop")


def refuse_early(config: RunConfig, device: Device) -> None:
    """Refusals that need no model and no prompts. Raises `ConfigError`."""
    device.refuse(config)
    refusals.refuse(config, device)


@dataclass(kw_only=True)
class AnswerRun:
    """An answering run under way: what was loaded, and what its events have said so far."""

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
    goes_on: object = None
    """Nothing: it does not take long enough."""
    keeps_model: bool = False
    kept_before: Any = None
    """The model that the session keeps of the run that trained last: `engine.session.kept_model.KeptModel`."""
    kept: Trained | None = field(default=None, init=False)
    """It trains none."""
    job: AnswerJob | None = None

    def __post_init__(self) -> None:
        self._figures = RunFigures(self.record)
        self._failed_phase: Phase | None = None
        self._said: str | None = None
        self._has_answered = False
        self._prompts: Prompts | None = None

    def execute(self) -> RunRecord:
        """Run to the end. Never raises: what goes wrong is in the record's outcome and message.

        The device's peaks are those of this run: `Device.reset_peaks` was called.
        Raises `ConfigError` before answering when the model or the prompts cannot be used. The memory is given back
        then too.
        """
        end = self._attempt()
        self._close()
        if isinstance(end, ConfigError):
            raise end
        outcome, message = end
        return replace(self._figures.as_record(), outcome=outcome, message=message, failed_phase=self._failed_phase)

    def place(self) -> Place | None:
        """Where it is within what takes long; None where that is not known. Any thread may ask."""
        job = self.job
        return None if job is None else job.place()

    def _attempt(self) -> End:
        """Load and answer. What fails after the first error, as all does on a lost device, does not hide it."""
        end: End | None = None
        config = self.record.config
        try:
            with ExitStack() as stack:
                self._moment("start")
                stack.enter_context(gate.threads(self._threads()))
                if self.device.torch_device.type == "cpu":
                    stack.enter_context(keeping_pages())
                stack.enter_context(self.device.settings(config))
                stack.enter_context(attention.kernel(config, self.device))
                stack.enter_context(compiling.forgotten_after(config))
                stack.enter_context(self.device.tracking())
                end = self._load_and_answer()
        except Exception as error:
            if end is None:
                return self._describe(error)
            log.error("run %s left switches behind", self.record.run_id, exc_info=error)
        assert end is not None
        return end

    def _load_and_answer(self) -> End:
        try:
            self.job = job = self._load()
            assert self._prompts is not None
            answer.warm_up(job, self._prompts.warmup)
            sample = answer.answer(job)
            self.device.synchronize()
            self._has_answered = True
            self._moment("answered")
        except Exception as error:  # stored as text: an exception holds its frames, and those hold tensors
            return self._describe(error)
        try:
            self._look_back(job, sample)
        except Stopped:
            return Outcome.STOPPED, stopped(self.why_stopped())
        except Exception as error:  # the answers are there, and so is what they took
            log.error("run %s: its answers could not be compared", self.record.run_id, exc_info=error)
            self._say(Phase.LOAD, f"The answers could not be compared: {failures.sentence(error)}")
        return Outcome.COMPLETED, None

    def _look_back(self, job: AnswerJob, sample: list[Any]) -> None:
        """What is measured of the answers once they are there: in no figure of time or memory."""
        if comparing.is_compared(job.config):
            self._say(Phase.LOAD, "comparing with plain generate")
            if (compared := comparing.compare(job, sample)) is not None:
                self._tell(compared)

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

    def _load(self) -> AnswerJob:
        config, run_id = self.record.config, self.record.run_id
        self._say_how_busy()
        self.device.create_context()
        self._moment("context")
        self._say(Phase.LOAD, f"looking for {model_name(config.model)}")
        found = loading.find(config, self.hub)
        self._stop_if_asked()
        prompts = self._prompts = prepare_prompts(config, found.tokenizer, found.vocab_size)
        longest = max(len(request.input_ids) for request in prompts.requests)
        loading.check_length(found, config, longest)
        for note in (*prompts.notes, found.source.note):
            self._say(Phase.LOAD, note)
        torch.manual_seed(config.seed)
        with Stoppable(self.should_stop):
            model = loading.build(found, config)
        for sentence in (attention.note(model, config), quantised.note(model, config)):
            if sentence:
                self._say(Phase.LOAD, sentence)
        eos = frozenset() if config.ignore_eos else loading.eos_of(found, model)
        model.generation_config = own_settings(model)
        self.device.adopt(model)
        self._stop_if_asked()
        self._moment("model")
        text = found.source.config.get_text_config()
        pad = text.pad_token_id if found.tokenizer is None else pad_token_id_of(found.tokenizer, text.pad_token_id)
        job = AnswerJob(
            run_id=run_id,
            config=config,
            device=self.device,
            model=model,
            tokenizer=found.tokenizer,
            requests=prompts.requests,
            pad_token_id=pad or 0,
            eos_token_ids=eos,
            emit=self._tell,
            should_stop=self.should_stop,
        )
        self._tell(self._started(job, model, longest))
        return job

    def _started(self, job: AnswerJob, model: PreTrainedModel, longest: int) -> AnsweringStarted:
        config = job.config
        item = next(model.parameters()).element_size() if config.kv_dtype == "model" else 1
        return AnsweringStarted(
            run_id=job.run_id,
            n_parameters=quantised.n_parameters(model),
            n_requests=len(job.requests),
            n_warmup=min(config.batch_size, len(job.requests)),
            prompt_tokens=longest,
            max_new_tokens=config.max_new_tokens,
            weights=sum(parameter.nbytes for parameter in model.parameters()),
            kv_per_token=0 if config.kv_cache == "off" else kv_bytes_per_token(model.config, item),
            threads=torch.get_num_threads(),
            compared=comparing.is_compared(config),
        )

    def _tell(self, event: Event) -> None:
        self._figures.add(event)
        self.emit(event)

    def _describe(self, error: Exception) -> End:
        """What an error makes of the run; the traceback of a defect goes to the log file."""
        if isinstance(error, ConfigError):
            return ConfigError(error.knob, error.message)  # without the frames
        if isinstance(error, Stopped):
            return Outcome.STOPPED, stopped(self.why_stopped(), loading=self.job is None)
        phase = self.job.phase if self.job else Phase.LOAD
        self._failed_phase = phase
        outcome, message = failures.described(error, self._where(phase), self.device)
        if outcome is Outcome.FAILED:
            log.error("run %s failed in %s", self.record.run_id, phase.noun, exc_info=error)
        return outcome, message

    def _where(self, phase: Phase) -> str:
        """`in decode of request 3, token 57`."""
        steps = self.job.steps if self.job else None
        if steps is None:
            return f"in {phase.noun}"
        numbers = [writing.request.number for writing in steps.writings]
        if numbers[0] <= 0:
            whose = "warm-up"
        elif len(numbers) == 1:
            whose = f"request {numbers[0]:,}"
        else:
            whose = f"requests {numbers[0]:,} to {numbers[-1]:,}"
        return f"in {phase.noun} of {whose}" + (f", token {steps.n_arrived + 1:,}" if steps.n_arrived else "")

    def _close(self) -> None:
        """Read the peaks, then give the memory back: outside the `except`, references dropped first. Never raises."""
        if not self._has_answered:
            self._moment("answered" if self.job is not None else "end")
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
