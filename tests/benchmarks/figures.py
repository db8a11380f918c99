"""A measured figure and its goal, and the table of them."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured. `goal` is the least value allowed, or with `at_most` the greatest; None means no goal."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    at_most: bool = False
    rounds: Sequence[float] = ()
    """What the value is the median of."""
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)
    """Further numbers, for the JSON file only."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def ratio(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    goal: float | None,
    note: str = "",
    *,
    at_most: bool = False,
) -> Figure:
    """The median of ours ÷ theirs over the rounds of an interleaved A B A B measurement."""
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    details = {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}
    return Figure(
        name=name,
        value=statistics.median(rounds),
        goal=goal,
        at_most=at_most,
        rounds=rounds,
        note=note,
        details=details,
    )


def alternate(a: Callable[[], T], b: Callable[[], T], rounds: int) -> tuple[list[T], list[T]]:
    """Measure A B B A A B … : a drift of the machine hits both, and neither is always the first."""
    first: list[T] = []
    second: list[T] = []
    for index in range(rounds):
        for one, results in [(a, first), (b, second)][:: 1 if index % 2 == 0 else -1]:
            results.append(one())
    return first, second


def table(figures: Sequence[Figure]) -> str:
    """One line per figure: value, goal, met or missed, and the spread over the rounds."""
    width = max((len(figure.name) for figure in figures), default=0)
    return "\n".join(line(figure, width) for figure in figures)


def line(figure: Figure, width: int = 60) -> str:
    """A figure as a line of the table."""
    value = f"{figure.value:,.4g}{' ' + figure.unit if figure.unit else ''}"
    goal = ""
    if figure.goal is not None:
        goal = f"{'≤' if figure.at_most else '≥'} {figure.goal:g}{' ' + figure.unit if figure.unit else ''}"
    met = {True: "met", False: "MISSED", None: ""}[figure.met]
    spread = f"{min(figure.rounds):.3g} … {max(figure.rounds):.3g}" if figure.rounds else ""
    return f"{figure.name:<{width}}  {value:>14}  {goal:<12} {met:<6}  {spread:<18} {figure.note}".rstrip()


def save(figures: Sequence[Figure], path: Path) -> None:
    """All figures, their rounds and the machine's load as JSON."""
    rows = [{**asdict(figure), "met": figure.met} for figure in figures]
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()}
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=1) + "\n", encoding="utf-8")
