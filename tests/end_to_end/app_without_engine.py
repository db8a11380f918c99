"""The app as `traintop` opens it, with a session that trains nothing: a run is under way until it is stopped.

The run ends by itself some drains after the terminal is gone, so that going on without one can be seen.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.contract.records import Outcome
from engine.contract.stop_reason import BY_USER
from engine.session import session
from tests.tui.fake_session import FakeSession, finished, ready, started, training, update
from tui.app import launch

DRAINS = 3


class Session(FakeSession):
    """Says what it was asked in a file, for the test to read."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()
        self._waited = 0
        if "idle" in sys.argv:
            self.feed(ready())
        else:
            self.feed(ready(), started(), training(), update(1))
            self.busy = True

    def stop(self, why: str = BY_USER) -> None:
        self._note(f"stopped{why}")
        self.feed(finished(outcome=Outcome.STOPPED))

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        self._waited += 1
        time.sleep(0.01)
        if self.busy and self._waited > DRAINS:
            self._note("went on")
            self.feed(finished())
        return self.drain()

    def close(self, timeout_s: float = 5.0) -> bool:
        self._note("closed")
        return True

    @staticmethod
    def _note(text: str) -> None:
        with (Path(os.environ["TRAINTOP_HOME"]) / "asked.txt").open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


if __name__ == "__main__":
    session.Session = Session  # type: ignore[assignment, misc]
    sys.exit(launch.open_app(RunConfig(), in_ascii="ascii" in sys.argv))
