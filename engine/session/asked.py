"""What the screen asks between runs, answered in a thread of its own: forecasts, what fits, the cards, a script."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.events import Event, Forecasted, Logged, RunStarted, ScriptMade, Surveyed
from engine.contract.records import DeviceInfo, RunRecord

if TYPE_CHECKING:
    from engine.session.forecasts import Forecasts
    from engine.telemetry.nvml import Nvml
    from engine.training.hub import Hub

log = logging.getLogger("traintop")


@dataclass(frozen=True, slots=True)
class _Script:
    """A run that is to be handed over, and what it is called."""

    config: RunConfig
    title: str
    device: DeviceInfo | None


@dataclass(frozen=True, slots=True)
class _Survey:
    """Asks for the cards."""

    config: RunConfig


_Question = RunConfig | RunRecord | RunStarted | _Survey | _Script


class Asked:
    """The questions, in their order; of forecasts only the newest one is answered.

    `put` gives an answer to the screen alone, `emit` also to the history; `run_id` is the run under way. `begin` says
    that the libraries are there.
    """

    def __init__(
        self,
        hub: Hub,
        nvml: Nvml,
        closing: threading.Event,
        run_id: Callable[[], int | None],
        put: Callable[[Event], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._hub = hub
        self._nvml = nvml
        self._closing = closing
        self._run_id = run_id
        self._put = put
        self._emit = emit
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._newest: RunConfig | None = None
        self._ready = threading.Event()
        self._forecasts: Forecasts | None = None

    def forecast(self, config: RunConfig) -> None:
        """`Forecasted` follows, unless another such question comes before the answer."""
        self._newest = config
        self._questions.put(config)

    def propose(self, record: RunRecord) -> None:
        """`Proposed` follows: what would fit instead of a run that was out of memory."""
        self._questions.put(record)

    def survey(self, config: RunConfig) -> None:
        """`Surveyed` follows: which cards there are for `config`, and what it would need there."""
        self._questions.put(_Survey(config))

    def hand_over(self, config: RunConfig, title: str, device: DeviceInfo | None) -> None:
        """`ScriptMade` follows: the run as a script for the Hugging Face Trainer; `device` is where it was."""
        self._questions.put(_Script(config, title, device))

    def count(self, started: RunStarted) -> None:
        """`WorkCounted` follows, where that can be and the run is still under way."""
        self._questions.put(started)

    def begin(self, forecasts: Forecasts | None) -> None:
        """Answer with `forecasts`; None: what is heavy could not be imported."""
        self._forecasts = forecasts
        self._ready.set()

    def end(self) -> None:
        """Answer nothing more."""
        self._questions.put(None)

    def answer(self) -> None:
        """The thread's work."""
        while (question := self._questions.get()) is not None:
            self._ready.wait()  # the engine's thread imports what is heavy
            if self._forecasts is None or self._closing.is_set():
                return
            if isinstance(question, RunConfig) and question is not self._newest:
                continue
            try:
                self._answer(question, self._forecasts)
            except Exception as error:  # a defect of ours must not end the forecasts
                log.exception("a forecast failed")
                self._emit(Logged(source="forecast", text=f"No forecast: {error}", level="error"))
                if isinstance(question, RunConfig):
                    message = "no forecast for this configuration (details in the log file)"
                    self._put(Forecasted(config=question, forecast=None, message=message))
                elif isinstance(question, _Survey):
                    message = "the cards could not be looked at (details in the log file)"
                    self._put(Surveyed(config=question.config, choices=(), message=message))

    def _answer(self, question: _Question, forecasts: Forecasts) -> None:
        if isinstance(question, RunConfig):
            if question.is_parallel:
                from engine.ranks.processes import get_ready

                get_ready()  # what its ranks need is imported while the person still chooses
            self._put(forecasts.answer(question, partial(self._say_reading, question)))
        elif isinstance(question, RunStarted):
            counted = forecasts.count(question.run_id, question.config)
            if counted is not None and self._run_id() == counted.run_id:
                self._emit(counted)
        elif isinstance(question, _Survey):
            from engine.session.survey import survey

            self._put(survey(question.config, self._nvml, forecasts))
        elif isinstance(question, _Script):
            self._put(self._make_script(question))
        else:
            self._put(forecasts.proposals(question))

    def _make_script(self, asked: _Script) -> ScriptMade:
        from engine.session.scripts import Left, script_of

        def go_on(what: str) -> None:
            if self._closing.is_set():
                raise Left

        return script_of(asked.config, asked.title, asked.device, self._hub, go_on)

    def _say_reading(self, config: RunConfig) -> None:
        self._put(Forecasted(config=config, forecast=None, message="reading the data …", pending=True))
