"""One answering run from its configuration to its record: load, answer, and whatever goes wrong, as an outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from engine.answering import answer, comparing, continuous, drafting, loading, quality, scoring
from engine.answering.job import AnswerJob
from engine.answering.pace import Pace, gained, unmeasured
from engine.answering.prefix_cache import PrefixCache
from engine.answering.prompts import Prompts, prepare_prompts
from engine.answering.requests import Writing
from engine.answering.response_cache import ResponseCache
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import AnsweringStarted, Event
from engine.contract.host_load import HostLoad
from engine.contract.idle import idle
from engine.contract.presets import model_name
from engine.contract.records import Outcome, Phase, Place, RunRecord
from engine.contract.stop_reason import BY_USER, stopped
from engine.devices.base import Device
from engine.techniques import attention, compiling, quantised
from engine.techniques.generation import caches, guessing
from engine.techniques.generation.settings import own_settings
from engine.techniques.stopping import Stoppable, Stopped
from engine.training import answerers, attempt, failures
from engine.training.attempt import End
from engine.training.hub import Hub
from engine.training.own_models import Find, unknown
from engine.training.saving.model_folder import Trained
from engine.training.telling import Telling
from engine.workloads.tokens.vocabulary import pad_token_id_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("traintop")


def refuse_early(config: RunConfig, device: Device) -> None:
    """Refusals that need no model and no prompts. Raises `ConfigError`."""
    attempt.refuse_early(config, device)
    continuous.refuse_early(config, device)


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
    own_model: Find = unknown
    """Finds the model that an earlier run trained."""
    kept: Trained | None = field(default=None, init=False)
    """It trains none."""
    job: AnswerJob | None = None

    def __post_init__(self) -> None:
        self._telling = Telling(
            record=self.record,
            device=self.device,
            emit=lambda event: self.emit(event),
            should_stop=lambda: self.should_stop(),
        )
        self._failed_phase: Phase | None = None
        self._has_answered = False
        self._prompts: Prompts | None = None
        self._found: loading.Found | None = None

    def execute(self) -> RunRecord:
        """Run to the end. Never raises: what goes wrong is in the record's outcome and message.

        The device's peaks are those of this run: `Device.reset_peaks` was called.
        Raises `ConfigError` before answering when the model or the prompts cannot be used. The memory is given back
        then too.
        """
        end = attempt.attempt(
            self._telling,
            lambda: attempt.free_threads(self.device, self.host),
            self._load_and_answer,
            self._describe,
        )
        self._close()
        if isinstance(end, ConfigError):
            raise end
        outcome, message = end
        return replace(
            self._telling.figures.as_record(), outcome=outcome, message=message, failed_phase=self._failed_phase
        )

    def place(self) -> Place | None:
        """Where it is within what takes long; None where that is not known. Any thread may ask."""
        job = self.job
        return None if job is None else job.place()

    def _load_and_answer(self) -> End:
        try:
            self.job = job = self._load()
            sample = self._answer(job)
            self.device.synchronize()
            self._has_answered = True
            self._telling.moment("answered")
        except Exception as error:  # stored as text: an exception holds its frames, and those hold tensors
            return self._describe(error)
        try:
            message = self._look_back(job, sample)
        except Stopped:
            return Outcome.STOPPED, stopped(self.why_stopped())
        except Exception as error:  # the answers are there, and so is what they took
            log.error("run %s: its answers could not be compared", self.record.run_id, exc_info=error)
            self._telling.say(Phase.LOAD, f"The answers could not be compared: {failures.sentence(error)}")
            message = None
        return Outcome.COMPLETED, message

    def _answer(self, job: AnswerJob) -> list[Writing]:
        """What is asked for; the first answers."""
        assert self._prompts is not None
        classifies = job.config.task == "classification"
        with attention.proven(job.config, job.device):
            if classifies:
                scoring.warm_up(job)
            else:
                answer.warm_up(job, self._prompts.warmup)
        if classifies:
            scoring.score(job)
            return []
        return answer.answer(job)

    def _look_back(self, job: AnswerJob, sample: list[Writing]) -> str | None:
        """What is measured of the answers once they are there, in no figure of time or memory; what to end with."""
        pace = Pace()
        if comparing.is_compared(job.config):
            self._telling.say(Phase.LOAD, "comparing with plain generate")
            if (compared := comparing.compare(job, sample, pace)) is not None:
                self._telling.tell(compared)
        message = self._whether_it_paid(job.config, sample, pace) if job.config.speculate != "off" else None
        assert self._found is not None
        if quality.is_measured(job.config, self._found):
            self._measure(job, self._found)
        return message

    def _whether_it_paid(self, config: RunConfig, sample: list[Writing], pace: Pace) -> str | None:
        missing = unmeasured(config, sample, pace, is_virtual=self.device.info.is_virtual)
        if missing is None:
            return gained(config, sample, pace)
        self._telling.say(Phase.LOAD, missing)
        return None

    def _measure(self, job: AnswerJob, found: loading.Found) -> None:
        """What was rounded beside what was not: one model after the other, as both may have no room."""
        config, device = job.config, self.device
        self._telling.say(Phase.LOAD, "measuring what rounding costs, on held-out text")
        with device.on_host():
            text = quality.text_of(config, found, self.hub, lambda what: self._telling.stop_if_asked())
            ours = quality.foretold(job.model, text, config, device, self.should_stop)
            del job.model
            job.draft = job.prefixes = None
            device.synchronize()
            own = quality.unrounded(found, config, device, self.should_stop)
            theirs = quality.foretold(own, text, quality.plain(found, config), device, self.should_stop)
        self._telling.tell(quality.measured(job.run_id, text, ours, theirs))
        if not found.source.has_weights:
            self._telling.say(Phase.LOAD, "The weights are random, so what rounding costs in quality says nothing.")

    def _load(self) -> AnswerJob:
        config, run_id = self.record.config, self.record.run_id
        self._telling.say_how_busy(self.host)
        self.device.create_context()
        self._telling.moment("context")
        self._telling.say(Phase.LOAD, f"looking for {model_name(config.model)}")
        found = self._found = loading.find(config, self.hub, self.own_model)
        found_draft = drafting.find(config, self.hub, found, self.own_model)
        self._telling.stop_if_asked()
        prompts = self._prompts = prepare_prompts(
            config, found, self.hub, lambda what: self._telling.say(Phase.DATA, what)
        )
        longest = max(len(request.input_ids) for request in prompts.requests)
        answerers.check_length(found.source, config, longest)
        if found_draft is not None:
            drafting.check_length(found_draft, config, longest)
        for note in (*prompts.notes, *found.notes(config), *idle(config)):
            self._telling.say(Phase.LOAD, note)
        torch.manual_seed(config.seed)
        with Stoppable(self.should_stop):
            model = loading.build(found, config)
            draft = None if found_draft is None else drafting.build(found_draft, config)
        if config.speculate != "off":
            guessing.refuse_stateful(model, "speculate", model_name(config.model))
        for sentence in (
            attention.note(model, config),
            quantised.note(model, config),
            drafting.note(found_draft, found),
            guessing.note(model) if config.speculate != "off" else None,
        ):
            if sentence:
                self._telling.say(Phase.LOAD, sentence)
        writes = config.task != "classification"
        eos: frozenset[int] = frozenset()
        if writes:
            caches.refuse(config, model)
            continuous.refuse(config, model)
            eos = eos if config.ignore_eos else loading.eos_of(found, model)
            model.generation_config = own_settings(model)
        self.device.adopt(model)
        if draft is not None:
            self.device.adopt(draft)
        self._telling.stop_if_asked()
        if not writes:
            compiling.apply(model, config, len(prompts.requests))
        self._telling.moment("model")
        text = found.source.config.get_text_config()
        pad = text.pad_token_id if found.tokenizer is None else pad_token_id_of(found.tokenizer, text.pad_token_id)
        job = AnswerJob(
            run_id=run_id,
            config=config,
            device=self.device,
            model=model,
            draft=draft,
            tokenizer=found.tokenizer,
            requests=prompts.requests,
            pad_token_id=pad or 0,
            eos_token_ids=eos,
            emit=self._telling.tell,
            should_stop=self.should_stop,
            prefixes=self._prefixes(prompts, model) if config.prefix_cache else None,
            responses=ResponseCache() if config.response_cache else None,
        )
        self._telling.tell(self._started(job, model, longest))
        return job

    def _prefixes(self, prompts: Prompts, model: PreTrainedModel) -> PrefixCache:
        asked = [request.input_ids for request in prompts.requests]
        # what is asked again is answered by the response cache, where there is one
        return PrefixCache(set(asked) if self.record.config.response_cache else asked, model)

    def _started(self, job: AnswerJob, model: PreTrainedModel, longest: int) -> AnsweringStarted:
        config = job.config
        writes = config.task != "classification"
        models = [model] if job.draft is None else [model, job.draft]
        per_token = 0
        if config.keeps_keys:
            per_token = sum(caches.kv_bytes_per_token(each.config, config.kv_dtype, each.dtype) for each in models)
        return AnsweringStarted(
            run_id=job.run_id,
            n_parameters=quantised.n_parameters(model),
            n_requests=len(job.requests),
            n_warmup=sum(answer.warmup_sizes(config, len(job.requests))),
            prompt_tokens=longest,
            max_new_tokens=config.max_new_tokens if writes else 0,
            weights=quantised.n_bytes(model),
            draft_parameters=None if job.draft is None else quantised.n_parameters(job.draft),
            draft_weights=None if job.draft is None else quantised.n_bytes(job.draft),
            kv_per_token=per_token,
            threads=torch.get_num_threads(),
            compared=comparing.is_compared(config),
        )

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
        if self.job is not None and phase is Phase.SCORE:
            return f"in {phase.noun} of text {self.job.n_done + 1:,} and those with it"
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
            self._telling.moment("answered" if self.job is not None else "end")
        self.job = None
        attempt.clean_up(self.device, self.record.run_id)
