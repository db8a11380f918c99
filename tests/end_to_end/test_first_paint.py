"""What stands behind the screen is imported and opened once the screen has painted."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.end_to_end.programs import environment
from tests.end_to_end.terminal import Terminal

PROGRAM = """
import sys
from pathlib import Path

from tui import cli
from tui.app import launch

LATER = {"engine.history.history", "engine.session.session", "engine.plans.course", "psutil"}

def open_nothing(behind):
    from engine.history.errors import HistoryError

    Path(sys.argv[1]).write_text(" ".join(sorted(LATER & loaded)) or "none")
    raise HistoryError("There is no history today.")

real = launch.Later.__getattr__

def note(later, name):
    global loaded
    loaded = set(sys.modules)
    return real(later, name)

launch.Later.__getattr__ = note
launch._Behind.open = open_nothing
sys.exit(cli.main([]))
"""


def test_paint_comes_first_and_a_history_that_cannot_be_opened_ends_the_app(tmp_path: Path) -> None:
    program, loaded = tmp_path / "program.py", tmp_path / "loaded.txt"
    program.write_text(PROGRAM, encoding="utf-8")
    with Terminal([sys.executable, str(program), str(loaded)], env=environment(tmp_path)) as terminal:
        assert terminal.wait_exit() == 5  # the history is at fault
        assert terminal.restored
        assert b"Next run" in terminal.raw
        assert "traintop: There is no history today." in terminal.text
        assert "Traceback" not in terminal.text
    assert loaded.read_text() == "none"
