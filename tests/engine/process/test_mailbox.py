"""The bounded mailbox between threads."""

from __future__ import annotations

import threading

from engine.contract.events import Event, EventsDropped, Logged, MemoryMoment, MicroStepDone, Sampled
from engine.contract.records import HostSample, Memory
from engine.process.mailbox import Mailbox


def _frequent(number: int) -> MicroStepDone:
    return MicroStepDone(run_id=1, micro_step=number, micro_steps=1000, t=0.0)


def _rare(moment: str) -> MemoryMoment:
    return MemoryMoment(run_id=1, moment=moment, memory=Memory())


def test_events_come_out_once_in_the_order_they_went_in() -> None:
    mailbox = Mailbox()
    events: list[Event] = [_frequent(1), _rare("start"), _frequent(2)]
    for event in events:
        mailbox.put(event)
    assert mailbox.drain() == events
    assert mailbox.drain() == []


def test_a_full_mailbox_drops_the_oldest_frequent_events_and_says_how_many() -> None:
    mailbox = Mailbox(capacity=3)
    for number in range(1, 8):
        mailbox.put(_frequent(number))
    assert mailbox.drain() == [EventsDropped(count=4), _frequent(5), _frequent(6), _frequent(7)]
    assert mailbox.drain() == []  # told once


def test_rare_events_are_never_dropped_and_take_no_room() -> None:
    mailbox = Mailbox(capacity=2)
    rare = [_rare(str(number)) for number in range(50)]
    for event in rare:
        mailbox.put(event)
        mailbox.put(_frequent(1))
    got = mailbox.drain()
    assert [event for event in got if isinstance(event, MemoryMoment)] == rare
    assert got[0] == EventsDropped(count=48)


def test_samples_and_log_lines_count_as_frequent() -> None:
    mailbox = Mailbox(capacity=1)
    mailbox.put(Sampled(run_id=None, t=None, gpu=None, host=HostSample(), memory=Memory()))
    mailbox.put(Logged(source="engine", text="one"))
    assert mailbox.drain() == [EventsDropped(count=1), Logged(source="engine", text="one")]


def test_after_a_drain_there_is_room_again() -> None:
    mailbox = Mailbox(capacity=2)
    for _ in range(3):
        mailbox.put(_frequent(1))
        mailbox.put(_frequent(2))
        assert mailbox.drain() == [_frequent(1), _frequent(2)]


def test_wait_returns_at_once_when_something_is_there_and_empty_when_nothing_comes() -> None:
    mailbox = Mailbox()
    assert mailbox.wait(0.0) == []
    mailbox.put(_rare("start"))
    assert mailbox.wait(None) == [_rare("start")]


def test_wait_is_woken_by_another_thread() -> None:
    mailbox = Mailbox()
    writer = threading.Thread(target=mailbox.put, args=(_rare("model"),))
    writer.start()
    assert mailbox.wait(60.0) == [_rare("model")]
    writer.join()


def test_many_writers_lose_nothing_while_a_reader_drains() -> None:
    mailbox = Mailbox(capacity=100)
    n_writers, n_each = 4, 2000

    def write() -> None:
        for _ in range(n_each):
            mailbox.put(_frequent(1))

    writers = [threading.Thread(target=write) for _ in range(n_writers)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers) or seen < n_writers * n_each:
        for event in mailbox.wait(1.0):
            seen += event.count if isinstance(event, EventsDropped) else 1
    assert seen == n_writers * n_each
