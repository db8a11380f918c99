"""Why a run's figures are not its configuration's alone: the marks of its row. Standard library only.

A marked row teaches the forecast nothing and gets no verdict on what was disturbed; every table shows the mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.conditions import Neighbour, Slowdown
from engine.contract.host_load import busy_share, is_busy, taken
from engine.contract.numbers import mib, of_hundred, percent
from engine.contract.records import RunRecord
from engine.contract.text import enumerated

_NAMED = 3
_COMMAND = 60
"""Characters of a command that are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One of them."""

    word: str
    """`contended`"""
    short: str
    """The word where there is room for seven characters."""
    how_long: str
    """How long, or how much: `40 % of the time`, empty where that is unknown."""
    why: str
    """What happened, without the run: `card shared with anna's process 4242 (30000 MiB, …)`."""
    was: str = ""
    """What the run was, where it is not the word: `on a busy host`."""
    memory: bool = False
    """Whether the memory that was used is not the run's alone either."""


def marks_of(record: RunRecord) -> tuple[Mark, ...]:
    """What is known to have disturbed a run; empty where nothing is."""
    met, marks = record.conditions, []
    if met is not None and met.neighbours:
        how_long = f"{share_of(met.shared)} of the time" if met.shared is not None else ""
        why = f"the card was shared with {in_words(met.neighbours)}"
        marks.append(Mark(word="contended", short="shared", how_long=how_long, why=why, memory=True))
    if met is not None and met.throttled:
        how_long = f"{share_of(met.throttled[0].share)} of the time"
        why = f"the card slowed itself down, {slowed(met.throttled)}"
        marks.append(Mark(word="throttled", short="slowed", how_long=how_long, why=why))
    cores, free = record.host_cores, record.host_free_cores
    if cores is not None and free is not None and is_busy(cores, free, record.device, record.config):
        why = f"{taken(cores, free, past=True)}, and on a quiet host it would be faster"
        how_much = share_of(busy_share(cores, free))
        marks.append(Mark(word="host busy", short="busy", how_long=how_much, why=why, was="on a busy host"))
    return tuple(marks)


def words_of(record: RunRecord) -> str:
    """`contended, throttled`; empty where a run was not disturbed."""
    return ", ".join(mark.word for mark in marks_of(record))


def sentences(record: RunRecord) -> list[str]:
    """A sentence for each mark: `Contended 40 % of the time: the card was shared with …`."""
    return [f"{mark.word.capitalize()} {mark.how_long}".rstrip() + f": {mark.why}." for mark in marks_of(record)]


def why_no_verdict(records: Sequence[RunRecord], *, memory: bool = False) -> str:
    """Why what these runs took says little: `run 7 was contended`; empty where none was disturbed.

    With `memory` only what disturbs the memory counts.
    """
    for record in records:
        words = [mark.was or mark.word for mark in marks_of(record) if mark.memory or not memory]
        if words:
            return f"run {record.run_id} was {' and '.join(words)}"
    return ""


def share_of(share: float | None) -> str:
    """A share of the time in percent, `<1 %` where there was a little."""
    return "<1 %" if share is not None and 0 < share < 0.005 else percent(of_hundred(share))


def in_words(neighbours: Sequence[Neighbour]) -> str:
    """`anna's process 4242 (30000 MiB, 87 % of the SMs, python train.py) and 2 more`."""
    names = [_named(each) for each in neighbours[:_NAMED]]
    if more := len(neighbours) - len(names):
        names.append(f"{more} more")
    return enumerated(names) or "nobody"


def _named(neighbour: Neighbour) -> str:
    whose = f"{neighbour.user}'s process" if neighbour.user else "process"
    told = [f"{mib(neighbour.peak_memory)} MiB"]
    if neighbour.sm is not None:
        told.append(f"{percent(neighbour.sm)} of the SMs")
    if neighbour.command:
        command = neighbour.command
        told.append(command if len(command) <= _COMMAND else f"{command[: _COMMAND - 1]}…")
    return f"{whose} {neighbour.pid} ({', '.join(told)})"


def slowed(slowdowns: Sequence[Slowdown]) -> str:
    """`too hot 40 %, power brake 3 %`: shares of the time."""
    return ", ".join(f"{each.reason} {share_of(each.share)}" for each in slowdowns)
