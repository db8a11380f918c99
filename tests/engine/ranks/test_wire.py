"""A rank's side of the pipe: it never waits for who reads."""

from __future__ import annotations

from multiprocessing import Pipe

from engine.contract.config import RunConfig
from engine.contract.events import EventsDropped, MicroStepDone
from engine.contract.records import Outcome, RunRecord
from engine.ranks.wire import Ended, Outbox, Told


def test_a_reader_that_sleeps_costs_frequent_events_and_says_how_many() -> None:
    ours, theirs = Pipe()
    outbox = Outbox(theirs)
    n = 30_000  # more than the pipe and the mailbox hold
    for number in range(1, n + 1):
        outbox.put(MicroStepDone(run_id=1, micro_step=number, micro_steps=n, t=0.0))
    end = Ended(record=RunRecord(run_id=1, config=RunConfig(), outcome=Outcome.COMPLETED))
    outbox.put(end)
    got: list[Told] = []
    while end not in got:
        got += ours.recv()
    outbox.finish(60)
    steps = [each.micro_step for each in got if isinstance(each, MicroStepDone)]
    dropped = sum(each.count for each in got if isinstance(each, EventsDropped))
    assert steps == sorted(steps)
    assert steps[-1] == n
    assert dropped > 0
    assert len(steps) + dropped == n
