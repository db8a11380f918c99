"""What a run met on its card, and the energy that it took, added up from its readings. Pure: no NVML, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.contract.cards import Card, CardProcess
from engine.contract.conditions import Conditions, Neighbour, Slowdown
from engine.contract.neighbours import used_by

LONGEST_S = 5.0
"""Of an interval between two readings of the power that is filled by their mean; a longer one is unknown."""
COMMAND = 200
"""Characters of another's command line that are kept."""


class EnergyMeter:
    """Joules between the first reading and the last.

    By the card's own counter (nvmlDeviceGetTotalEnergyConsumption). It begins at 0 when the driver is loaded again or
    the card is reset, some stand still, and older cards have none: what an interval lacks is its power by the
    trapezoidal rule.
    """

    def __init__(self) -> None:
        self._before: tuple[float, float | None, float | None] | None = None
        self._by_counter = self._by_power = self._mixed = 0.0  # joules
        self._n_intervals = self._n_counted = 0
        self._power_known = self._mixed_known = True

    def add(self, t: float, counter: float | None, power: float | None) -> None:
        """A reading at `t` seconds: joules of the counter, watts."""
        before, self._before = self._before, (t, counter, power)
        if before is None or t <= before[0]:
            return
        self._n_intervals += 1
        drawn = _drawn(t - before[0], before[2], power)
        self._by_power += drawn or 0.0
        self._power_known &= drawn is not None
        if counter is not None and before[1] is not None and counter >= before[1]:
            self._n_counted += 1
            self._by_counter += counter - before[1]
            drawn = counter - before[1]
        self._mixed += drawn or 0.0
        self._mixed_known &= drawn is not None

    def read(self) -> tuple[float | None, str | None]:
        """Joules and where they are from, `counter` or `power`; None where a part of the time is unknown."""
        if self._by_counter > 0:
            if self._n_counted == self._n_intervals:
                return self._by_counter, "counter"
            return (self._mixed, "power") if self._mixed_known else (None, None)
        return (self._by_power, "power") if self._n_intervals and self._power_known else (None, None)


def _drawn(seconds: float, *powers: float | None) -> float | None:
    known = [power for power in powers if power is not None]
    return seconds * sum(known) / len(known) if known and seconds <= LONGEST_S else None


@dataclass(slots=True)
class _Seen:
    process: CardProcess
    seconds: float = 0.0
    peak_memory: int | None = None
    sms: list[float] = field(default_factory=lambda: [0.0, 0])
    """Sum and number of the readings that knew it."""


class RunConditions:
    """Adds up one run, on one card or several. A reading stands for the time since the one before."""

    def __init__(self) -> None:
        self._t: float | None = None
        self._trained = False
        self._seen_s = self._shared_s = 0.0
        self._n_seen = 0
        self._others: dict[tuple[int, float | None], _Seen] = {}
        self._peak_others = 0
        self._clocks_s = 0.0
        self._n_clocks = 0
        self._slowed_s: dict[str, float] = {}
        self._energy: list[EnergyMeter] = []

    def add(
        self, t: float, cards: Sequence[Card | None], others: Sequence[CardProcess] | None, *, trains: bool
    ) -> None:
        """A reading at `t` seconds: the cards and who else computed on any, each None where that is unknown.

        Clocks and energy count from the first reading with `trains` to the first without it again. Of several cards
        one that slows itself down counts: the others wait for it.
        """
        dt = 0.0 if self._t is None else max(0.0, t - self._t)
        self._t = t
        if others is not None:
            self._add_others(dt, others)
        trained, self._trained = self._trained, trains
        if not trains and not trained:
            return
        self._energy += [EnergyMeter() for _ in cards[len(self._energy) :]]
        seen = [(meter, card) for meter, card in zip(self._energy, cards, strict=True) if card and not card.lost]
        for meter, card in seen:
            meter.add(t, card.energy, card.power)
        known = [card.throttle for _, card in seen if card.throttle is not None]
        if trained and known:
            self._n_clocks += 1
            self._clocks_s += dt
            for reason in dict.fromkeys(reason for throttle in known for reason in throttle):
                self._slowed_s[reason] = self._slowed_s.get(reason, 0.0) + dt

    def forget_work(self) -> None:
        """Clocks and energy count from the next reading on."""
        self._trained, self._clocks_s, self._n_clocks = False, 0.0, 0
        self._slowed_s, self._energy = {}, []

    def _add_others(self, dt: float, others: Sequence[CardProcess]) -> None:
        self._n_seen += 1
        self._seen_s += dt
        self._shared_s += dt if others else 0.0
        self._peak_others = max(self._peak_others, used_by(others))
        for process in others:
            seen = self._others.setdefault((process.pid, process.started_at), _Seen(process))
            seen.seconds += dt
            if process.memory_used is not None:
                seen.peak_memory = max(seen.peak_memory or 0, process.memory_used)
            if process.sm is not None:
                seen.sms[0] += process.sm
                seen.sms[1] += 1

    def conditions(self) -> Conditions | None:
        """What was met; None where nothing could be seen."""
        if not self._n_seen and not self._n_clocks:
            return None
        neighbours = sorted(map(self._neighbour, self._others.values()), key=lambda each: -(each.peak_memory or 0))
        slowdowns = [Slowdown(reason=reason, share=_share(s, self._clocks_s)) for reason, s in self._slowed_s.items()]
        return Conditions(
            neighbours=tuple(neighbours) if self._n_seen else None,
            shared=_share(self._shared_s, self._seen_s) if self._n_seen else None,
            peak_others=self._peak_others if self._n_seen else None,
            slowdowns=tuple(sorted(slowdowns, key=lambda each: -each.share)) if self._n_clocks else None,
        )

    def energy(self) -> tuple[float | None, str | None]:
        """As `EnergyMeter.read`, of all cards together."""
        read = [meter.read() for meter in self._energy]
        known = [joules for joules, _ in read if joules is not None]
        if not read or len(known) < len(read):
            return None, None
        return sum(known), "counter" if all(source == "counter" for _, source in read) else "power"

    def _neighbour(self, seen: _Seen) -> Neighbour:
        total, n = seen.sms
        return Neighbour(
            pid=seen.process.pid,
            user=seen.process.user,
            command=seen.process.command and seen.process.command[:COMMAND],
            peak_memory=seen.peak_memory,
            sm=total / n if n else None,
            share=_share(seen.seconds, self._seen_s),
        )


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 0.0
