"""The history as commands open it: what was found amiss with it is said on stderr, and goes to the log."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.contract import paths
from engine.contract.figures import is_on_several
from engine.contract.records import RunRecord
from tui.drawing.text import clean

if TYPE_CHECKING:
    from engine.compare.scaling import OneGpu, Scaling
    from engine.history.history import History


def tell_notice(history: History, say: Callable[[str], None]) -> None:
    """Say, and log, that a damaged file was set aside when the history was opened."""
    if history.notice:
        logging.getLogger("traintop").warning("history: %s", history.notice)
        say(history.notice)


@contextlib.contextmanager
def history_to_read() -> Iterator[History]:
    """The history for a command that only looks at it. Raises `HistoryError` and `ConfigError`."""
    from engine.history.history import History
    from engine.session.capture import log_to_file

    with History(read_only=True) as history:
        if history.notice:
            log_to_file(paths.log_file())
        tell_notice(history, say)
        yield history


def scaling_in(history: History) -> Scaling:
    """What runs on several GPUs are measured by: this history, which is read when there is such a run."""
    known: dict[int, OneGpu] = {}  # by the state of the history: a plan writes while it is asked

    def scaling(record: RunRecord) -> float | None:
        if not is_on_several(record):
            return None
        from engine.compare.scaling import OneGpu
        from engine.history.errors import HistoryError

        with contextlib.suppress(HistoryError):  # that it cannot be read is told elsewhere
            token = history.change_token()
            if token not in known:
                baseline = history.baseline()
                known.clear()
                known[token] = OneGpu(history.runs(), None if baseline is None else history.run(baseline))
            return known[token].scaling(record)
        return None

    return scaling


def say(text: str) -> None:
    """A line for people."""
    sys.stderr.write(f"{clean(text)}\n")


def say_no_runs(history: History) -> None:
    """Say that there is no run, and where runs may be that were here once."""
    say("No runs yet: `traintop` or `traintop run` makes one.")
    damaged = history.damaged_files
    if damaged and not history.notice:
        newest = damaged[-1]
        say(f"A history that was damaged is kept as {newest}; `sqlite3 {newest} .recover` may find runs in it.")
