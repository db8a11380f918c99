"""What a plan is: an ordered list of runs, with a name, and as JSON for the history. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.contract.config import KNOBS, ConfigError, RunConfig, Value
from engine.contract.knob import shown

MAX_RUNS = 10_000
"""More runs than this in one plan are a mistake of a comma or a zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of a plan, or (`search`) the search for the largest batch size from this configuration on."""

    config: RunConfig
    label: str
    """What tells it from the plan's other runs: `batch 8, checkpointing on`."""
    repeat: int = 1
    """Counted from 1."""
    skip: str | None = None
    """Why it is not run: one sentence."""
    search: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An ordered list of runs."""

    name: str
    """`sweep`, `until-oom`, or the name of one of the lecture's experiments."""
    title: str
    runs: tuple[PlannedRun, ...]
    sizes: str = ""
    """For an experiment of the lecture: one sentence on what was sized how, and against what it may be held."""

    @property
    def total(self) -> int | None:
        """How many runs there are; None where a search decides."""
        return None if any(run.search for run in self.runs) else len(self.runs)


def to_json(plan: Plan) -> str:
    """A plan as the history keeps it."""
    runs = [
        {
            "config": run.config.to_dict(),
            "label": run.label,
            "repeat": run.repeat,
            "skip": run.skip,
            "search": run.search,
        }
        for run in plan.runs
    ]
    return json.dumps({"name": plan.name, "title": plan.title, "sizes": plan.sizes, "runs": runs})


def from_json(text: str) -> Plan:
    """The inverse of `to_json`. A configuration that this version refuses becomes a skipped run.

    Raises `ValueError` on what is no plan.
    """
    try:
        values = json.loads(text)
        runs = tuple(_read_run(run) for run in values["runs"])
        return Plan(name=str(values["name"]), title=str(values["title"]), sizes=str(values["sizes"]), runs=runs)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a plan: {error!r}") from None


def _read_run(values: dict[str, Any]) -> PlannedRun:
    skip = None if values["skip"] is None else str(values["skip"])
    try:
        config = RunConfig.from_dict(values["config"], lenient=True)
    except ConfigError as error:
        config, skip = RunConfig(), skip or error.message
    return PlannedRun(
        config=config,
        label=str(values["label"]),
        repeat=int(values["repeat"]),
        skip=skip,
        search=bool(values["search"]),
    )


def label_of(values: dict[str, Value]) -> str:
    """A few words for the values of some knobs: `batch size 8, checkpointing on`."""
    return ", ".join(f"{KNOBS[name].label} {shown(KNOBS[name], value, 'not set')}" for name, value in values.items())


def repeated(runs: Sequence[PlannedRun], times: int) -> tuple[PlannedRun, ...]:
    """All runs, `times` times over, each round with the next seed.

    Rounds, not each run on the spot: what drifts (clocks, temperature, neighbours) then meets all alike. Other seeds,
    because equal ones repeat loss and accuracy to the digit. Raises `ConfigError` beyond `MAX_RUNS`.
    """
    if len(runs) * times > MAX_RUNS:
        raise ConfigError("", f"This plan has {len(runs) * times:,} runs, more than {MAX_RUNS:,}: use fewer repeats.")
    rounds: list[PlannedRun] = []
    for turn in range(times):
        for run in runs:
            config = run.config.with_values(seed=(run.config.seed + turn) % 2**31) if turn else run.config
            rounds.append(replace(run, config=config, repeat=turn + 1))
    return tuple(rounds)
