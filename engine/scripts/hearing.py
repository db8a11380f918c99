"""What the processes of a script have said: understood, and as the events of its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.contract.events import Event
from engine.scripts import messages
from engine.scripts.folding import Folding
from engine.scripts.listening import Heard, Listener
from engine.scripts.messages import Told

Understood = tuple[int, Told | None]
"""The number of who said it, and what; None: it is heard no more."""


def read(heard: Iterable[Heard]) -> Iterator[Understood]:
    """What is understood of it: a message of a kind that another version has is left out."""
    for number, message in heard:
        told = None if message is None else messages.read(message)
        if message is None or told is not None:
            yield number, told


def take(folding: Folding, listener: Listener, understood: Iterable[Understood]) -> Iterator[Event]:
    """What this brings."""
    for number, told in understood:
        yield from folding.take(number, listener.pid_of(number), told)
