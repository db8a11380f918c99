"""How a script ended: an outcome, and one sentence. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.numbers import n_of
from engine.contract.records import Outcome, Phase
from engine.contract.text import capitalised, one_line
from engine.scripts.messages import End

_LONGEST = 300
_COMPLAINT = re.compile(r"error|exception|interrupt|not found|no such|cannot|denied", re.IGNORECASE)
"""What a last line on stderr is told for: it may be a progress bar too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of a run."""

    outcome: Outcome
    message: str | None = None
    phase: Phase | None = None
    rank: int | None = None
    """Which of several it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How one of its processes ended, as it said itself. `rank` None: it trained alone, or not at all."""

    end: End
    rank: int | None
    updates: int
    """Of the whole run, when it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a command in all."""

    updates: int
    torch: bool
    """Whether one of its processes imported torch."""
    backward: int = 0
    """Times that they called `backward`, with no step of an optimizer after it."""
    python: bool
    """Whether one of them loaded the instrument."""
    goes_on: bool = False
    """Whether some of what it started was still there when it ended."""
    lost_rank: int | None = None
    """Of several the first that was gone without a word."""


NOT_WATCHED = (
    "No Python of the command looks at PYTHONPATH, so that nothing inside it is watched: python -I and -E do not, and "
    "containers and other machines are out of reach."
)


def shell_code(code: int) -> int:
    """An exit code as a shell tells it: 128 and the number of the signal that ended the process."""
    return 128 - code if code < 0 else code


def of_end(code: int, told: Sequence[Told], seen: Seen, last_errors: Sequence[str], log: str) -> Verdict:
    """Of a script that nobody stopped. `code` is negative for a signal; `log` says where what it printed is."""
    updates = seen.updates
    if code == 0:
        return Verdict(outcome=Outcome.COMPLETED, message=_nothing_seen(seen))
    ran_out = next((each for each in told if each.end.out_of_memory), None)
    if ran_out is not None:
        text = _out_of_memory_text(ran_out.end.error or "")
        message = capitalised(f"{_who(ran_out)}out of memory {_where(ran_out)}: {text}")
        return Verdict(outcome=Outcome.OUT_OF_MEMORY, message=message, phase=ran_out.end.phase, rank=ran_out.rank)
    failed = next((each for each in told if each.end.error is not None), None)
    if code < 0:
        return Verdict(outcome=Outcome.FAILED, message=f"{_by_signal(-code, updates)} {log}".strip())
    if seen.lost_rank is not None:  # before any other ended: what those then say comes of it
        after = f"after update {updates:,}" if updates else "before the first update"
        then = f"the command then ended with exit code {code}" if failed is None else f"then {_failure(failed)}"
        message = (
            f"Rank {seen.lost_rank} was gone without a word {after}: killed, as by the system's out-of-memory killer, "
            f"or by itself; {then}. {log}"
        )
        return Verdict(outcome=Outcome.FAILED, message=message.strip(), rank=seen.lost_rank)
    if failed is not None:
        message = capitalised(f"{_failure(failed)}. {log}".strip())
        return Verdict(outcome=Outcome.FAILED, message=message, phase=failed.end.phase, rank=failed.rank)
    said = f": {_cut(last_errors[-1])}" if last_errors and _COMPLAINT.search(last_errors[-1]) else ""
    after = f" after update {updates:,}" if updates else ""
    message = f"It ended with exit code {code}{_shells_signal(code)}{after}{said}".rstrip(".")
    return Verdict(outcome=Outcome.FAILED, message=f"{message}. {log}".strip())


def _failure(told: Told) -> str:
    return f"{_who(told)}failed {_where(told)}: {_cut(one_line(told.end.error or '')).rstrip('.')}"


def _who(told: Told) -> str:
    return "" if told.rank is None else f"rank {told.rank}: "


def _where(told: Told) -> str:
    """`in backward of update 4`."""
    phase, update = told.end.phase, told.updates + 1
    if phase is None:
        return f"after update {told.updates:,}" if told.updates else "before the first update"
    return f"in {phase.noun} of update {update:,}"


def _out_of_memory_text(error: str) -> str:
    """What was asked for and what was free: PyTorch goes on to suggest settings."""
    line = one_line(error.partition("\n")[0])
    line = line.partition(": ")[2] or line
    end = line.find(" is free.")
    return line[: end + len(" is free.")] if end >= 0 else _cut(line)


def _by_signal(number: int, updates: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    after = f" after update {updates:,}" if updates else " before its first update"
    if number == signal.SIGKILL:
        return f"Killed by {name}{after}: the system's out-of-memory killer did it, or somebody."
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return f"Ended by {name}{after}, which traintop did not send: somebody did, or the system."
    return f"It crashed with {name}{after}."


def _shells_signal(code: int) -> str:
    try:
        return f" (a shell's word for {signal.Signals(code - 128).name})" if code > 128 else ""
    except ValueError:
        return ""


def _nothing_seen(seen: Seen) -> str | None:
    if seen.updates:
        return None
    if seen.goes_on:
        return (
            "The command ended before a training, and what it started goes on, which is not watched: start the "
            "training in the foreground, without & and not as a daemon."
        )
    if seen.backward:
        times = n_of(seen.backward, "time")
        return f"It called backward {times}, and no optimizer of PyTorch's stepped: there are no updates to show."
    if seen.torch:
        return "No optimizer stepped: nothing of a training was seen."
    return "It imported no torch: there is nothing to show of a training." if seen.python else NOT_WATCHED


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
