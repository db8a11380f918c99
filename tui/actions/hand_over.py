"""Taking runs elsewhere: exports, command lines, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.numbers import n_of, number
from tui.desk.desk import Desk
from tui.desk.readings import Readings
from tui.state.paths import free_path
from tui.state.result_rows import note_of

if TYPE_CHECKING:
    from engine.contract.events import ScriptMade
    from engine.history.plans import StoredPlan
    from engine.session.engine import Engine
    from tui.screens.export import Wanted

CLIPBOARD_LIMIT = 74_994
"""Bytes that every terminal with OSC 52 takes: 100,000 characters of base64, xterm's own limit."""


class HandOverControl:
    """What leaves the app."""

    def __init__(self, desk: Desk, readings: Readings, session: Engine) -> None:
        self._desk, self._readings, self._session = desk, readings, session
        self._state = desk.state

    def export(self) -> None:
        """Ask which rows go where in which format."""
        query = note_of(self._state.table.query)
        if not self._state.rows:
            self._desk.say(f"no run has {query!r} to export: Esc shows all" if query else "no runs to export")
            return
        self._readings.ask(lambda history: history.plans.newest(), self._offer, lambda problem: self._offer([]))

    def _offer(self, plans: list[StoredPlan]) -> None:
        from tui.screens.export import ExportScreen

        state = self._state
        rows = [row for row in state.rows if row.run_id in state.table.marked]
        query = note_of(state.table.query)
        if self._desk.shows_panes:
            screen = ExportScreen(rows, state.rows, state.base, query, plans)
            self._desk.open(screen, self._export)

    def _export(self, wanted: Wanted | None) -> None:
        if wanted is not None:
            self._state.notice = self._handed_over(wanted)

    def _handed_over(self, wanted: Wanted) -> str:
        runs = n_of(wanted.n_rows, "run")
        runs += f" that have {wanted.query!r}" if wanted.query else ""
        if wanted.path is None:
            return self._copied(wanted.text, f"{runs} as {wanted.format_name}")
        try:
            wanted.path.write_text(wanted.text, encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = error.strerror if isinstance(error, OSError) else str(error)
            return f"{wanted.path} cannot be written ({why}): x takes another name"
        return f"{runs} written to {wanted.path}"

    def _copied(self, text: str, what: str) -> str:
        """Copy, and say so: the terminal gives no answer."""
        n_bytes = len(text.encode())
        if n_bytes > CLIPBOARD_LIMIT:
            return f"{what}: {number(n_bytes)} bytes are too many for a terminal's clipboard; write a file instead"
        self._desk.app.copy_to_clipboard(text)
        return f"{what} copied, if the terminal allows it (OSC 52)"

    def copy_command(self) -> None:
        """Copy the command line of the run in the results table, or of the next run."""
        from engine.export.hand_over import command_line

        config, title = self._chosen()
        self._desk.say(self._copied(command_line(config), f"command of {title}"))

    def copy_script(self) -> None:
        """Copy the run in the results table, or the next one, as a script for the Hugging Face Trainer."""
        config, title = self._chosen()
        self._desk.say(f"making the script of {title} …")
        row = self._state.selected if self._desk.on_results else None
        self._session.hand_over(config, title, row.device if row is not None else None)

    def take_script(self, made: ScriptMade) -> None:
        """Copy the script that was asked for, and write the data that belongs beside it into the current folder."""
        if made.text is None:
            self._desk.say(f"no script of {made.title}: {made.message or ''}")
            return
        said = self._copied(made.text, f"script of {made.title}")
        if made.data_name:
            try:
                Path(made.data_name).write_text(made.data, encoding="utf-8")
                said += f"; its data is in {made.data_name}"
            except OSError as error:
                said += f"; its data, {made.data_name}, cannot be written here ({error.strerror})"
        self._desk.say(said)

    def _chosen(self) -> tuple[RunConfig, str]:
        """The run in the results table where that has the focus, else the next one; and what it is called."""
        row = self._state.selected if self._desk.on_results else None
        if row is None:
            return self._state.editor.config, "the next run"
        return row.config, f"run {row.run_id}"

    def save_picture(self, filename: str | None = None, path: str | None = None) -> None:
        """Save the screen as SVG in the current folder, named after the run that is shown."""
        run = self._state.run
        target = Path(filename) if filename else free_path(f"traintop-run-{run.run_id}" if run else "traintop", ".svg")
        try:
            self._desk.app.save_screenshot(str(target), path or ".")
        except OSError as error:
            self._desk.say(f"{target} cannot be written ({error.strerror}): start traintop in a folder that can")
            return
        self._desk.say(f"screen saved as {target}")
