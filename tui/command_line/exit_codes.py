"""Exit codes of the command line; other programs rely on them."""

from __future__ import annotations

from engine.contract.records import Outcome

DONE = 0
WRONG_USAGE = 2
OUT_OF_MEMORY = 3
FAILED = 4
"""The run failed, or nothing can be trained here."""
INTERRUPTED = 130
"""128 + SIGINT, as shells say it; also when SIGTERM or a reader that went away stopped the run."""

OF_OUTCOME = {
    Outcome.COMPLETED: DONE,
    Outcome.OUT_OF_MEMORY: OUT_OF_MEMORY,
    Outcome.FAILED: FAILED,
    Outcome.STOPPED: INTERRUPTED,
    Outcome.INTERRUPTED: INTERRUPTED,
}
