"""What the processes of a script have said, as the events of its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.contract.events import Event
from engine.scripts import messages
from engine.scripts.folding import Folding
from engine.scripts.listening import Heard, Listener


def take(folding: Folding, listener: Listener, heard: Iterable[Heard]) -> Iterator[Event]:
    """What this brings."""
    for number, message in heard:
        told = None if message is None else messages.read(message)
        if message is not None and told is None:  # of a kind that another version has
            continue
        yield from folding.take(number, listener.pid_of(number), told)
