"""What a run leaves for later: its model on the disk, and going on where it was cut short."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract import paths
from engine.contract.config import ConfigError
from engine.contract.records import Outcome
from tui.actions.runs import RunControl
from tui.desk.desk import Desk
from tui.desk.readings import Readings

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.session.engine import Engine
    from engine.session.resumption import Checkpoint


class SavingControl:
    """Asks for a model to be written, and for runs that go on with a checkpoint."""

    def __init__(self, desk: Desk, runs: RunControl, readings: Readings, session: Engine) -> None:
        self._desk, self._runs, self._readings, self._session = desk, runs, readings, session
        self._state = desk.state

    def save_model(self) -> None:
        """Ask where the model of the run that has just ended is to be kept, and keep it there."""
        from tui.screens.line import LineScreen

        run = self._state.run
        if run is None or run.under_way:
            self._desk.say("no run has ended here whose model could be saved")
            return
        run_id = run.run_id
        if run.config.is_script:
            self._desk.say("a script keeps its model itself: traintop never has it")
            return
        if run.config.is_parallel:
            self._desk.say(
                f"the model of run {run_id} ended with its GPUs' processes: --output-dir keeps the next one's"
            )
            return

        def take(text: str | None) -> None:
            if text is not None and text.strip():
                self._session.save_model(run_id, str(Path(text.strip()).expanduser().absolute()))
                self._desk.say(f"saving the model of run {run_id} …")

        why = "A folder that holds no model yet. transformers and peft load it, and so does traintop predict."
        folder = paths.data_dir() / "models" / f"run-{run_id}"
        self._desk.open(LineScreen(f"Save the model of run {run_id} in", why, str(folder)), take)

    def resume(self) -> None:
        """Go on with the run under the cursor of the results table, from its last checkpoint."""
        row = self._state.selected
        if row is None:
            self._desk.say("no run to go on with")
        elif row.outcome is Outcome.COMPLETED:
            self._desk.say(f"run {row.run_id} came to its end: there is nothing to go on with")
        elif row.config.is_script:
            self._desk.say("a script goes on by its own flag, where it has one: put it into the command")
        elif self._runs.may_start():
            run_id = row.run_id
            self._readings.ask(lambda history: _find(run_id, history), self._start)

    def _start(self, found: Checkpoint | str) -> None:
        if isinstance(found, str):
            self._desk.say(found)
        elif self._runs.may_start():
            self._state.queued += 1
            self._state.editor.problem = None
            self._session.resume(found, found.config)
            self._desk.say(f"run {found.run_id} goes on after update {found.update}")


def _find(run_id: int, history: History) -> Checkpoint | str:
    from engine.session import resumption

    try:
        return resumption.find(str(run_id), history)
    except ConfigError as error:
        return error.message.removeprefix(f"--resume {run_id}: ")
