"""What a run said in a test, by kind."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.contract.events import EvalDone, Event, UpdateDone


@dataclass(kw_only=True)
class Heard:
    """Its events, in their order."""

    events: list[Event] = field(default_factory=list)

    @property
    def updates(self) -> list[UpdateDone]:
        return [event for event in self.events if isinstance(event, UpdateDone)]

    @property
    def evaluations(self) -> list[EvalDone]:
        return [event for event in self.events if isinstance(event, EvalDone)]

    @property
    def losses(self) -> list[float]:
        return [update.loss for update in self.updates]
