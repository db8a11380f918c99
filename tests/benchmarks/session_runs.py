"""A run of a session of its own, to its end."""

from __future__ import annotations

from collections.abc import Callable

from engine.contract.config import RunConfig
from engine.contract.events import Event, RunFinished, RunRefused
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from engine.session.session import Session


def follow(config: RunConfig, history: History, hear: Callable[[Event], object] = lambda event: None) -> RunRecord:
    """The row of the run; `hear` is told its events. Raises `RuntimeError` where it does not complete."""
    session = Session(history)
    session.open()
    session.start(config)
    try:
        while True:
            for event in session.wait(1.0):
                hear(event)
                if isinstance(event, RunRefused):
                    raise RuntimeError(event.message)
                if isinstance(event, RunFinished):
                    if event.record.outcome is not Outcome.COMPLETED:
                        raise RuntimeError(event.record.message)
                    return event.record
    finally:
        session.close(30.0)
