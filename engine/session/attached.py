"""The process that keeps the run of one that has asked to be watched: `traintop.attach()` starts it there."""

from __future__ import annotations

from collections.abc import Callable

from engine.contract.config import RunConfig
from engine.contract.events import EngineFailed, Event, RunFinished, RunRefused
from engine.history.history import History
from engine.scripts.attaching import Attached
from engine.scripts.child import INSIDE
from engine.session.session import Session

_WAIT_S = 0.2


def keep(
    pid: int,
    config: RunConfig,
    history: History,
    ready: Callable[[str, str], None],
    why_leave: Callable[[], str | None],
    *,
    is_interactive: bool = False,
) -> Event | None:
    """Listen to the process `pid` from now on, and keep its run until it is over.

    `ready` is told the socket to speak to and the folder of what looks on. `why_leave` says why nobody is to listen
    any more, one of `engine.contract.stop_reason`; the process itself goes on. Returns how it ended; None where it
    never trained, and so has no row. Imports no torch.

    Raises `OSError` where there is no socket.
    """
    attached = Attached(pid, is_interactive=is_interactive)
    if attached.listener.path is None:
        raise OSError("no socket can be made in the temporary folder")
    try:
        ready(attached.listener.path, str(INSIDE))
        if not attached.trains(lambda: why_leave() is not None):
            return None
        session = Session(history, attached=attached)
        session.start(config)
        session.open()
        try:
            return _followed(session, why_leave)
        finally:
            session.close()
    finally:
        attached.listener.close()


def _followed(session: Session, why_leave: Callable[[], str | None]) -> Event:
    while True:
        for event in session.wait(_WAIT_S):
            if isinstance(event, (RunFinished, RunRefused, EngineFailed)):
                return event
        why = why_leave()
        if why is not None:
            session.stop(why)
