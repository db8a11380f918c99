"""A process that trains with others, but is not the first of them: it keeps no history and prints nothing.

Rank 0 says what to run; all that is to be known of this one goes to that one.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import Outcome
from engine.contract.run_figures import new_record
from engine.process.launched import Launched

if TYPE_CHECKING:
    from engine.ranks.meeting import Meeting
    from engine.training.run import Run

log = logging.getLogger("traintop")

_HEARD_S = 30.0
"""For processes that begin with rank 0 and import as much."""
_WRITTEN_S = 10.0
"""For rank 0 to write a run that did not complete, and to say so."""


def follow(here: Launched, should_stop: Callable[[], bool], why_stopped: Callable[[], str]) -> Outcome | None:
    """Train what rank 0 trains, to its end, which is this one's too; None where that is a refusal.

    The calling thread only waits and listens: it may be the one that gets signals.
    """
    from engine.process.imports import import_transformers
    from engine.ranks.joined import MEET_S
    from engine.ranks.meeting import meet
    from engine.training.run import quiet_libraries

    import_transformers()
    quiet_libraries()
    try:
        meeting = meet(here, should_stop, MEET_S)
    except ConfigError as error:
        log.error("rank %d: %s", here.rank, error.message)
        return None
    if meeting is None:
        return Outcome.STOPPED
    outcome = _train(meeting, should_stop, why_stopped)
    if outcome is not Outcome.COMPLETED:
        _wait_for_rank_0(meeting, should_stop)
    return outcome


def _train(meeting: Meeting, should_stop: Callable[[], bool], why_stopped: Callable[[], str]) -> Outcome | None:
    from engine.ranks.joined import JoinedRun
    from engine.ranks.meeting import Gone

    here = meeting.here
    try:
        word = _what_begins(meeting, should_stop)
        if word is None:
            return Outcome.STOPPED
        run = _run(word, meeting, should_stop, why_stopped)
        return JoinedRun(here=here, run=run, meeting=meeting).execute().outcome
    except ConfigError as error:
        log.error("rank %d: %s", here.rank, error.message)
        return None
    except Gone:
        log.error("rank %d finds nobody at %s any more", here.rank, here.meeting_place)
        return Outcome.FAILED


def _wait_for_rank_0(meeting: Meeting, should_stop: Callable[[], bool]) -> None:
    """Until it has written the run: a launcher that sees one process fail ends all others, with what they have in
    hand. A signal that comes meanwhile is such an end.
    """
    from engine.ranks.meeting import Gone
    from engine.ranks.others import Others

    asked, until = should_stop(), time.monotonic() + _WRITTEN_S
    with suppress(Gone):
        others = Others(meeting.another())
        while not others.are_let_go() and should_stop() == asked and time.monotonic() < until:
            time.sleep(0.05)


def let_go(here: Launched) -> None:
    """Tell the others, from rank 0, that the run is written and all is said."""
    from engine.ranks.meeting import Gone, meet
    from engine.ranks.others import Others

    with suppress(ConfigError, Gone):
        meeting = meet(here, lambda: False, 0.0)
        if meeting is not None:
            Others(meeting).let_go()


def refuse_all(here: Launched, message: str) -> None:
    """Tell the others, from rank 0, that nothing is to be run, and wait a while for them to hear it."""
    from engine.ranks.end import End
    from engine.ranks.meeting import Gone, meet
    from engine.ranks.others import Others

    try:
        meeting = meet(here, lambda: False, 0.0)
        if meeting is not None:
            others = Others(meeting)
            others.end(End(rank=0, who="rank 0", outcome=None, message=message))
            others.leave(_HEARD_S)
    except (ConfigError, Gone) as error:
        log.error("the other ranks were not told: %s", error)


def _what_begins(meeting: Meeting, should_stop: Callable[[], bool]) -> dict[str, Any] | None:
    """What rank 0 says; None where it is stopped. Raises `ConfigError` where that one refuses, and `Gone`."""
    from engine.ranks.joined import BEGINS
    from engine.ranks.others import Others

    others = Others(meeting)
    while (word := meeting.word(BEGINS)) is None:
        first = others.first()
        if first is not None or should_stop():
            others.leave(0.0)
            if first is not None and first.outcome is None:
                raise ConfigError(first.knob, first.message or "")
            return None
        time.sleep(0.1)
    return word


def _run(
    word: dict[str, Any], meeting: Meeting, should_stop: Callable[[], bool], why_stopped: Callable[[], str]
) -> Run:
    """The run that rank 0 begins, on this rank's card. Raises `ConfigError`, which all hear of, and `Gone`."""
    from engine.ranks.end import End
    from engine.ranks.others import Others

    try:
        return _prepared(word, meeting.here, should_stop, why_stopped)
    except ConfigError as error:
        who = f"rank {meeting.here.rank} ({platform.node()})"
        refused = End(rank=meeting.here.rank, who=who, outcome=None, message=error.message, knob=error.knob)
        others = Others(meeting)
        others.end(refused)
        others.leave(0.0)
        raise


def _prepared(
    word: dict[str, Any], here: Launched, should_stop: Callable[[], bool], why_stopped: Callable[[], str]
) -> Run:
    from engine.devices.launched import open_own
    from engine.telemetry.nvml import door
    from engine.training.attempt import refuse_early
    from engine.training.hub import Hub
    from engine.training.run import Run
    from engine.training.saving.places import read_checkpoint
    from engine.workloads.early import check_data

    config = RunConfig.from_dict(word["config"])
    goes_on = None if word["resume"] is None else read_checkpoint(Path(word["resume"]))
    with suppress(OSError):  # reading it for the run says what is wrong
        check_data(config)
    device = open_own(config, here, door())
    refuse_early(config, device)
    device.reset_peaks()
    hub = Hub()
    threading.Thread(target=hub.probe, name="hub", daemon=True).start()
    record = new_record(word["run_id"], config, device.info, word["started_at"])
    return Run(
        record=replace(record, host=platform.node()),
        device=device,
        hub=hub,
        emit=lambda event: None,
        should_stop=should_stop,
        why_stopped=why_stopped,
        goes_on=goes_on,
    )
