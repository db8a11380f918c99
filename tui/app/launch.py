"""The app from its start to its end: the terminal it draws on, the signals it obeys, what it leaves behind."""

from __future__ import annotations

import gc
import logging
import sys
from typing import TYPE_CHECKING, cast

from engine.contract import paths
from engine.contract.config import RunConfig
from engine.contract.events import HistoryChanged, RunFinished
from engine.session.capture import OutputCapture, log_to_file
from tui.app.later import Later
from tui.command_line import exit_codes
from tui.drawing.text import clean
from tui.terminal import signals
from tui.terminal.ascii import stream_to
from tui.terminal.link import Link
from tui.terminal.signals import Signals

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.session.session import Session
    from tui.app.app import TraintopApp

_CLOSE_S = 0.3
"""How long what is not a run (an import, a forecast) may take to end; a run was waited for before."""
_WAIT_S = 0.5


def open_app(
    config: RunConfig, *, in_ascii: bool = False, theme: str | None = None, slow_link: bool = False, rings: bool = True
) -> int:
    """Open the app with the knobs of `config`, and return the exit code when it is left. Raises `HistoryError`."""
    gc.disable()  # what is imported stays: looking through it takes a tenth of the time to the first paint
    from tui.app.app import TraintopApp

    problem = log_to_file(paths.log_file())
    if problem:
        sys.stderr.write(f"traintop: {problem}\n")
    capture = OutputCapture()
    with Signals() as noticed, _Behind(capture, config) as behind:
        link = Link()
        app = TraintopApp(
            cast("Session", Later(behind.open)),
            config,
            signals=noticed,
            theme=f"traintop-{theme}" if theme else None,
            notices=signals.words_left(),
            link=link,
            slow_link=slow_link,
            rings=rings,
        )
        capture.start()
        sys.__stderr__ = stream_to(capture.stderr, link, in_ascii=in_ascii)  # type: ignore[misc, assignment]
        try:
            how = app.run(mouse=not slow_link)
            if app.unopened is not None:
                raise app.unopened
            gone = noticed.hung_up or (bool(app.return_code) and signals.terminal_is_gone())
            unwritten: list[str] = []
            if behind.session is not None:
                if gone:
                    _go_on_without(behind.session, noticed)
                behind.session.close(0.0 if how == "kill" else _CLOSE_S)
                unwritten = _unwritten(behind.session)
            lost = behind.close()
        finally:
            gc.enable()
            capture.stop()
    missing = " ".join([*([lost] if lost else []), *unwritten])
    if missing:
        _tell_lost(missing, gone=gone)
    if gone:
        signals.leave_terminal()
    code = exit_codes.with_storage(_code(app, noticed, gone=gone), missing)
    if link.abandoned:
        link.leave(code)
    return code


class _Behind:
    """What stands behind the screen: the history and the session over it, opened once the screen has painted."""

    def __init__(self, capture: OutputCapture, config: RunConfig) -> None:
        self._capture, self._config = capture, config
        self._history: History | None = None
        self.session: Session | None = None

    def __enter__(self) -> _Behind:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Session:
        """Raises `HistoryError`."""
        from engine.history.history import History
        from engine.session.session import Session

        self._history = history = History()
        if history.notice:
            logging.getLogger("traintop").warning("history: %s", history.notice)
        history.mark_interrupted()
        # to measure leaves a context, which would take from what the first of several ranks has, or a script
        measures = not self._config.is_parallel and not self._config.is_script
        self.session = Session(history, self._capture, device=self._config.device, measures=measures, keeps_model=True)
        return self.session

    def close(self) -> str | None:
        """Close the history; what is not in it and should be, in a sentence."""
        return self._history.close() if self._history is not None else None


def _tell_lost(lost: str, *, gone: bool) -> None:
    """Say what is not in the history: here, or at the next start."""
    logging.getLogger("traintop").error("history: %s", lost)
    if gone:
        signals.leave_word(lost)
    else:
        sys.stderr.write(f"traintop: {clean(lost)}\n")


def _unwritten(session: Session) -> list[str]:
    """What a person changed last in the history, and is not in it."""
    problems = [event.problem for event in session.drain() if isinstance(event, HistoryChanged) and event.problem]
    if session.n_unwritten:
        problems.append("The last change of the history was not written: another program keeps it locked.")
    return problems


def _go_on_without(session: Session, noticed: Signals) -> None:
    """The terminal is gone: see to the end what is under way, unless a SIGTERM comes, and leave word of it."""
    signals.leave_terminal()
    what = "nothing was running."
    if session.busy:
        signals.leave_word("what was under way went on without the screen.")
    while True:
        idle = not session.busy  # asked before the mailbox is read: what ended the run is in it by then
        for event in session.wait(_WAIT_S):
            if isinstance(event, RunFinished):
                outcome = event.record.outcome.value.replace("_", " ")
                what = f"run {event.record.run_id} went on without the screen: {outcome}."
        if idle:
            break
        if noticed.to_leave:
            session.stop(noticed.why)
    signals.leave_word(what)


def _code(app: TraintopApp, noticed: Signals, *, gone: bool) -> int:
    if noticed.to_leave:
        return exit_codes.INTERRUPTED
    if not app.return_code or gone:
        return exit_codes.DONE
    sys.stderr.write(f"traintop: the app ended by a fault; {paths.log_file()} has the details.\n")
    return exit_codes.FAILED
