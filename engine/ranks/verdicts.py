"""How a run on several GPUs ended where one rank did not go on: whose doing it was, and one sentence. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.contract.events import RankBeat
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.contract.text import capitalised

_ORDER = (Phase.LOAD, Phase.EVALUATE, Phase.DATA, Phase.FORWARD, Phase.BACKWARD, Phase.CLIP, Phase.OPTIMIZER)
"""As an update goes through them, from the evaluation before it on."""
_AS_LONG = 0.5
"""Of the time that one rank has stood, so long another must have stood to have waited for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome, in words, and the rank that it is due to; None where it is due to no single one."""

    outcome: Outcome
    message: str
    rank: int | None = None
    phase: Phase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where a rank is, as it told last."""

    beat: RankBeat
    layer: int
    waits: bool
    """Whether it is known to wait for others."""


def of_ends(ends: Mapping[int, RunRecord], cards: Sequence[DeviceInfo]) -> Verdict:
    """Of the runs that ended in some ranks, at least one of which did not complete.

    An out of memory is the cause of what else failed beside it; what all ranks say in the same words is no one's.
    """
    worst = next(
        outcome
        for outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED, Outcome.STOPPED)
        if any(record.outcome is outcome for record in ends.values())
    )
    concerned = sorted(rank for rank, record in ends.items() if record.outcome is worst)
    first = ends[concerned[0]]
    message = first.message or worst.words
    if worst is Outcome.STOPPED:
        return Verdict(outcome=worst, message=message)
    are_all = len(concerned) == len(cards)
    if worst is Outcome.FAILED and are_all and len({ends[rank].message for rank in ends}) == 1:
        return Verdict(outcome=worst, message=message, phase=first.failed_phase)
    said = f"{named(concerned, cards)}: {message}"
    at_fault = None if worst is Outcome.OUT_OF_MEMORY and are_all else concerned[0]
    return Verdict(outcome=worst, message=capitalised(said), rank=at_fault, phase=first.failed_phase)


def of_death(rank: int, code: int | None, update: int, cards: Sequence[DeviceInfo]) -> Verdict:
    """Of a rank whose process is gone. `code` as multiprocessing tells it: negative for a signal; None: unknown.

    `update` is the one that all worked on, counted from 1; 0 while they loaded.
    """
    if code is not None and code < 0:
        perhaps = ""
        if code == -signal.SIGKILL:
            perhaps = ", perhaps for want of host memory"
        elif code == -signal.SIGBUS:
            perhaps = ", perhaps for want of shared memory (/dev/shm)"
        how = f"was killed by {_signal_name(-code)}{perhaps}"
    else:
        how = "ended by itself" + (f" with exit code {code}" if code is not None else "")
    where = f"in update {update}" if update else "while it loaded"
    sentence = f"{named([rank], cards)} {how} {where}: all were ended. Its log file has what it printed."
    return Verdict(outcome=Outcome.FAILED, message=capitalised(sentence), rank=rank)


def of_silence(rank: int, seconds: float, stopped: bool, stand: Stand | None, cards: Sequence[DeviceInfo]) -> Verdict:
    """Of a rank that has told nothing for so long; `stopped`: a signal keeps its process from running."""
    how = "was stopped by a signal (SIGSTOP)" if stopped else "answered no more"
    sentence = f"{named([rank], cards)} {how} {_where(stand)}, for {seconds:.0f} s: all were ended."
    return _failed(rank, stand, sentence)


def of_standing(stands: Mapping[int, Stand], cards: Sequence[DeviceInfo]) -> Verdict:
    """Of ranks that stand still, all of which `stands` has: whom do the others wait for?

    Who waits for others is at no fault; of the rest who is furthest behind, and of equals who stood first.
    """
    at_fault = {rank: stand for rank, stand in stands.items() if not stand.waits} or dict(stands)
    rank = min(at_fault, key=lambda rank: (*_position(stands[rank]), -stands[rank].beat.since_s, rank))
    since_s = stands[rank].beat.since_s
    others = sorted(
        other
        for other, stand in stands.items()
        if other != rank and (stand.waits or stand.beat.since_s >= _AS_LONG * since_s)
    )
    waited = f"; {named(others, None)} waited for it" if others else ""
    sentence = (
        f"{named([rank], cards)} stood {_where(stands[rank])} for {since_s:.0f} s{waited}. "
        "All were ended; its log file has what it printed."
    )
    return _failed(rank, stands[rank], sentence)


def named(ranks: Sequence[int], cards: Sequence[DeviceInfo] | None) -> str:
    """`rank 1 (Tesla P4)`, `ranks 0 and 2`, `both ranks`, `all 4 ranks (Tesla P4)`."""
    models = "" if cards is None else " or ".join(dict.fromkeys(cards[rank].name for rank in ranks))
    if cards is not None and len(ranks) == len(cards) > 1:
        said = "both ranks" if len(ranks) == 2 else f"all {len(ranks)} ranks"
    elif len(ranks) == 1:
        said = f"rank {ranks[0]}"
    else:
        said = f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
    return f"{said} ({models})" if models else said


def _position(stand: Stand) -> tuple[int, int, int]:
    """Further on is larger."""
    layer = -stand.layer if stand.beat.phase is Phase.BACKWARD else stand.layer
    return stand.beat.update, _ORDER.index(stand.beat.phase), layer


def _where(stand: Stand | None) -> str:
    if stand is None or not stand.beat.update:
        return "while it loaded"
    if stand.beat.phase is Phase.EVALUATE:
        return f"in evaluation after update {stand.beat.update - 1}"
    return f"in {stand.beat.phase.noun} of update {stand.beat.update}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _failed(rank: int, stand: Stand | None, sentence: str) -> Verdict:
    phase = stand.beat.phase if stand is not None else Phase.LOAD
    return Verdict(outcome=Outcome.FAILED, message=capitalised(sentence), rank=rank, phase=phase)
