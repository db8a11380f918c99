"""Taking runs elsewhere: exports, command lines, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.numbers import number
from tui.actions.results import ResultActions
from tui.state.paths import free_path

if TYPE_CHECKING:
    from tui.screens.export import Wanted

CLIPBOARD_LIMIT = 74_994
"""Bytes that every terminal with OSC 52 takes: 100,000 characters of base64, xterm's own limit."""


class HandOverActions(ResultActions):
    """What leaves the app, and what it tells of itself."""

    def action_export(self) -> None:
        """Ask which rows go where in which format."""
        from tui.screens.export import ExportScreen

        rows = [row for row in self.state.rows if row.run_id in self.state.table.marked]
        if not self.state.rows:
            self._say("no runs to export")
            return
        self.push_screen(ExportScreen(rows, self.state.rows, self.state.record_of(self.state.baseline)), self._export)

    def _export(self, wanted: Wanted | None) -> None:
        if wanted is not None:
            self.state.notice = self._handed_over(wanted)
        self._back()

    def _handed_over(self, wanted: Wanted) -> str:
        runs = "1 run" if wanted.n_rows == 1 else f"{wanted.n_rows} runs"
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
        self.copy_to_clipboard(text)
        return f"{what} copied, if the terminal allows it (OSC 52)"

    def action_copy_command(self) -> None:
        """Copy the command line of the run in the results table, or of the next run."""
        from engine.export.hand_over import command_line

        row = self.state.selected if self._on_results else None
        config: RunConfig = row.config if row is not None else self.state.editor.config
        what = f"command of run {row.run_id}" if row is not None else "command of the next run"
        self._say(self._copied(command_line(config), what))

    def action_screenshot(self, filename: str | None = None, path: str | None = None) -> None:
        """Save the screen as SVG in the current folder, named after the run that is shown."""
        run = self.state.run
        target = Path(filename) if filename else free_path(f"traintop-run-{run.run_id}" if run else "traintop", ".svg")
        try:
            self.save_screenshot(str(target), path or ".")
        except OSError as error:
            self._say(f"{target} cannot be written ({error.strerror}): start traintop in a folder that can")
            return
        self._say(f"screen saved as {target}")
