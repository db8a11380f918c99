"""Asking a model: a prompt is typed, and answered at once by a run of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.answering_combinations import WRITING_TASKS
from engine.contract.by_job import asked, asking
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, RunFinished, RunRefused, RunStarted
from engine.contract.records import Outcome, RunRecord
from tui.actions.runs import RunControl
from tui.desk.desk import Desk

if TYPE_CHECKING:
    from engine.session.engine import Engine
    from tui.screens.ask import AskScreen

_EVERY = 3
"""Turns between two looks at an answer that is being written."""


class AskControl:
    """Owns the questions of the dialog that is open: each is a run, and the table shows the last of them."""

    def __init__(self, desk: Desk, runs: RunControl, session: Engine) -> None:
        self._desk, self._runs, self._session = desk, runs, session
        self._waits_for: RunConfig | None = None
        self._turns = 0

    def ask(self) -> None:
        """Open the dialog for the model that was trained last, for that of the run in focus, or for the next run's."""
        found = self._model()
        if found is None:
            self._desk.say("no model to ask: train one that writes (task causal-lm), or J turns to answering")
        elif self._runs.may_start():
            from tui.screens.ask import AskScreen

            name, config = found
            self._desk.open(AskScreen(name, lambda text: self._start(config, text)))

    def _model(self) -> tuple[str, RunConfig] | None:
        """What is asked, as people call it, and with which knobs."""
        state = self._desk.state
        row = state.selected if self._desk.on_results else None
        if row is not None and row.config.answers and row.config.task in WRITING_TASKS:
            return f"{row.config.model}, as in run {row.run_id}", row.config
        if row is not None and _writes(row):
            return _called(row), asking(row)
        config = state.editor.config
        if config.answers:
            return (config.model, config) if config.task in WRITING_TASKS else None
        trained = [each for each in state.finished if _writes(each)]
        newest = max(trained, key=lambda each: each.run_id, default=None)
        return (_called(newest), asking(newest)) if newest is not None else None

    def _start(self, config: RunConfig, text: str) -> str | None:
        """Ask; the sentence says why not."""
        state = self._desk.state
        if state.queued or state.running or self._session.busy:
            return "the answer before is still being written"
        try:
            wanted = asked(config, text)
        except ConfigError as error:
            return error.message
        state.queued += 1
        self._waits_for = wanted
        self._session.start(wanted)
        return None

    def see(self, event: Event) -> None:
        """Take an event that was just folded: the start and the end of what was asked."""
        screen = self._screen()
        if screen is None:
            return
        if isinstance(event, RunRefused) and event.config == self._waits_for:
            screen.end(event.message)
        elif isinstance(event, RunStarted) and event.config == self._waits_for:
            answer = self._desk.state.answer
            if answer is not None:
                screen.follow(event.run_id, answer)
        elif isinstance(event, RunFinished) and event.record.run_id == screen.run_id:
            done = event.record.outcome is Outcome.COMPLETED
            screen.end("" if done else event.record.message or event.record.outcome.words)

    def turn(self) -> None:
        """Show what came, several times a second."""
        self._turns += 1
        screen = self._screen()
        if screen is not None and screen.waits and self._turns % _EVERY == 0:
            screen.show()

    def _screen(self) -> AskScreen | None:
        from tui.screens.ask import AskScreen

        if len(self._desk.app.screen_stack) < 2:
            return None
        return next((screen for screen in self._desk.app.screen_stack if isinstance(screen, AskScreen)), None)


def _writes(row: RunRecord) -> bool:
    """Whether a run trained a model that can be asked."""
    ended = row.outcome in (Outcome.COMPLETED, Outcome.STOPPED)
    return ended and row.config.trains and row.config.task in WRITING_TASKS


def _called(row: RunRecord) -> str:
    return f"{row.config.model}, as run {row.run_id} trained it"
