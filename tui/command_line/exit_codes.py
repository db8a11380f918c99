"""Exit codes of the command line; other programs rely on them."""

from __future__ import annotations

from engine.contract.records import Outcome, RunRecord

DONE = 0
WRONG_USAGE = 2
OUT_OF_MEMORY = 3
FAILED = 4
"""The run failed, nothing can be trained here, or what a command has to say cannot be written."""
NOT_STORED = 5
"""The history could not be opened or written, so that something that was done, or should have been, is not in it."""
INTERRUPTED = 130
"""128 + SIGINT, as shells say it; also when SIGTERM or a reader that went away stopped the run."""

OF_OUTCOME = {
    Outcome.COMPLETED: DONE,
    Outcome.OUT_OF_MEMORY: OUT_OF_MEMORY,
    Outcome.FAILED: FAILED,
    Outcome.STOPPED: INTERRUPTED,
    Outcome.INTERRUPTED: INTERRUPTED,
}


def of_run(record: RunRecord) -> int:
    """The exit code of a run that is over: of a user's own script that failed, or was out of memory, its own."""
    code = OF_OUTCOME[record.outcome]
    own = record.script.exit_code if record.script is not None else None
    return own if own and code in (OUT_OF_MEMORY, FAILED) else code


HELP = (
    "Exit codes: 0 done, 2 wrong usage, 3 out of memory, 4 the run failed, 5 the history could not be opened or\n"
    "written (a run that ends with 3 or 4 keeps that code; stderr says what is not stored), 130 interrupted.\n"
    "A script after -- that fails passes on its own exit code: 128 and its number for a signal, as a shell says it."
)


def with_storage(code: int, lost: str | None) -> int:
    """The exit code of a program that ends with `code` when `lost` says what is not in the history."""
    return NOT_STORED if code == DONE and lost else code
