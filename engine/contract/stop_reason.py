"""Why a run was stopped before its end, in the words that its row keeps."""

from __future__ import annotations

BY_USER = " by the user"
BY_WARNING = " by SIGUSR1, which Slurm sends before the time limit"
BY_TERMINATION = " by SIGTERM"
BY_HANG_UP = ", as its terminal went away"
BY_OUTPUT = ": the output could not be written"


def stopped(why: str, *, loading: bool = False) -> str:
    """The sentence: `Stopped while loading by SIGTERM.`"""
    return f"Stopped{' while loading' if loading else ''}{why}."
