"""A group of two ranks without a session, whose events are kept; `act` may do something to a rank as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import Event, RanksStarted, UpdateDone
from engine.contract.records import RunRecord
from engine.contract.run_figures import new_record
from engine.devices.several import describe, rank_devices
from engine.ranks.group import RankGroup
from engine.telemetry.nvml import door
from engine.training.hub import Hub

SMALL = RunConfig(device="virtual:tesla-p4", gpus=2, model="bert-tiny", samples=24, batch_size=2, seq_len=16)


@dataclass
class Driven:
    """What happened, and when (`time.monotonic`)."""

    events: list[Event] = field(default_factory=list)
    record: RunRecord | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    acted_at: float = 0.0
    over_at: float = 0.0
    pids: list[int] = field(default_factory=list)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def drive(
    config: RunConfig,
    act: Callable[[Driven], None] | None = None,
    *,
    after: int = 1,
    limits: dict[int, int] | None = None,
    **options: Any,
) -> Driven:
    """Do a run. `act` is called once, when update `after` is told (0: when the ranks are there)."""
    driven = Driven()
    names = rank_devices(config, door())
    cards = describe(names, config, door())

    def emit(event: Event) -> None:
        driven.events.append(event)
        if isinstance(event, RanksStarted):
            driven.pids = [each.pid for each in event.ranks]
        due = isinstance(event, UpdateDone) and event.update >= after if after else isinstance(event, RanksStarted)
        if act is not None and due and not driven.acted_at:
            driven.acted_at = time.monotonic()
            act(driven)

    group = RankGroup(
        record=new_record(1, config, cards[0], time.time()),
        names=names,
        cards=cards,
        hub=Hub(False),
        emit=emit,
        should_stop=driven.stop.is_set,
        **options,
    )
    for rank, limit in (limits or {}).items():
        own = group.assignments[rank]
        smaller = replace(own.record, config=config.with_values(vram_limit=limit))
        group.assignments[rank] = replace(own, record=smaller)
    try:
        driven.record = group.execute()
    finally:
        driven.over_at = time.monotonic()
    return driven
