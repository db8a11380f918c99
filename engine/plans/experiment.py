"""What an experiment is, and its rows: a table of runs that turn a knob or two, sized to the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.contract.config import ConfigError, RunConfig, Value
from engine.plans.lecture import CONFIG
from engine.plans.types import PlannedRun, label_of

SCALES = {
    "small": "a small model and few samples, for minutes on a CPU: trends, not the lecture's numbers",
    "short": "the lecture's model and sequences for a few updates, or tokens: its memory, not its time",
    "lecture": "the lecture's own sizes, for a GPU",
}
"""How large the runs of a named plan are."""

Sized = Callable[..., RunConfig]
"""The plan's configuration with some knobs turned, which is what a row is about. What is given expressly overrides the
plan's sizes, and those that `sizes`, a dictionary, has in their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPlan:
    """An experiment: what it is called and what it shows."""

    name: str
    title: str
    description: str
    """One sentence."""
    build: Callable[[Sized, str], tuple[PlannedRun, ...]]
    """The rows at a scale."""
    small: dict[str, Value]
    """Sizes on a machine without a GPU; the other knobs are the lecture's."""
    short: dict[str, Value]
    """What a few updates, or tokens, at the lecture's sizes change of them."""
    lecture: RunConfig = CONFIG
    small_is_short: bool = False
    """True where a small model would show nothing: without a GPU, the lecture's sizes for a few updates."""
    virtual: dict[str, Value] = field(default_factory=dict)
    """What the plan needs of the virtual GPU that `auto` stands for on a machine without one."""
    why_virtual: str = ""
    """Why it needs that, for the sentence on sizes."""

    @property
    def job(self) -> str:
        """Of its runs."""
        return self.lecture.job


def table(sized: Sized, *turns: dict[str, Value], labels: tuple[str, ...] = ()) -> tuple[PlannedRun, ...]:
    """A row for each of `turns`, skipped where it cannot be. Raises `ConfigError` where none can be."""
    made = []
    for index, turned in enumerate(turns):
        label = labels[index] if labels else label_of(turned)
        try:
            made.append(PlannedRun(config=sized(**turned), label=label))
        except ConfigError as error:
            made.append(PlannedRun(config=RunConfig(), label=label, skip=error.message))
    if not any(row.is_possible for row in made):
        raise ConfigError("", f"None of this plan's runs is possible: {made[0].skip}")
    return tuple(made)


def each(sized: Sized, knob: str, values: tuple[Value, ...]) -> tuple[PlannedRun, ...]:
    """A row for each value of a knob."""
    turns: list[dict[str, Value]] = [{knob: value} for value in values]
    return table(sized, *turns)
