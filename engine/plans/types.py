"""What a plan is: an ordered list of runs, with a name, and as JSON for the history. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args, get_type_hints

from engine.contract import script_flags
from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.forecast_types import Foretold
from engine.contract.script_flags import is_turnable, shown, with_knobs
from engine.plans.search import BATCH_SIZE, SOUGHT

MAX_RUNS = 10_000
"""More runs than this in one plan are a mistake of a comma or a zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of a plan, or (`search`) the search for a knob's largest value that fits, from this configuration on."""

    config: RunConfig
    label: str
    """What tells it from the plan's other runs: `batch 8, checkpointing on`."""
    repeat: int = 1
    """Counted from 1."""
    skip: str | None = None
    """Why it is not run: one sentence."""
    by_forecast: bool = False
    """True where its forecast stands for the run that `skip` says is not made."""
    stack: str | None = None
    """The software whose forecast it is, by its name for `--stack`; None for today's."""
    foretold: Foretold | None = None
    """What a forecast says of it; None where none was made yet, or can be."""
    search: str = ""
    """The knob that is searched, one of `engine.plans.search.SOUGHT`; empty for a run."""

    @property
    def is_possible(self) -> bool:
        """False where the configuration makes no sense, so that there is nothing to run or to forecast."""
        return self.skip is None or self.by_forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An ordered list of runs."""

    name: str
    """`sweep`, `until-oom`, or the name of one of the experiments."""
    title: str
    runs: tuple[PlannedRun, ...]
    sizes: str = ""
    """For an experiment: one sentence on what was sized how, and against what it may be held."""

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
            "by_forecast": run.by_forecast,
            "stack": run.stack,
            "foretold": None if run.foretold is None else asdict(run.foretold),
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
        by_forecast=bool(values.get("by_forecast")),
        stack=None if values.get("stack") is None else str(values["stack"]),
        foretold=_read_foretold(values.get("foretold")),
        search=_read_search(values["search"]),
    )


def _read_search(value: Any) -> str:
    """Earlier versions knew one search, and kept whether it is one."""
    if isinstance(value, str):
        if value and value not in SOUGHT:
            raise ValueError(f"not a search: {value!r}")
        return value
    return BATCH_SIZE if value else ""


def _read_foretold(values: Any) -> Foretold | None:
    """None also for a forecast that another version kept in another way: a plan can go on without it."""
    kinds = get_type_hints(Foretold)
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        return None
    if not all(isinstance(values[name], (get_args(kind) or (kind,))) for name, kind in kinds.items()):
        return None
    return Foretold(**values)


def label_of(values: dict[str, Value]) -> str:
    """A few words for the values of some knobs: `batch size 8, checkpointing on`."""
    return ", ".join(f"{script_flags.label_of(name)} {shown(name, value, 'not set')}" for name, value in values.items())


def repeated(runs: Sequence[PlannedRun], times: int) -> tuple[PlannedRun, ...]:
    """All runs, `times` times over, each round with the next seed.

    Rounds, not each run on the spot: what drifts (clocks, temperature, neighbours) then meets all alike. Other seeds,
    because equal ones repeat loss and accuracy to the digit; a script whose command takes none has its own way. Raises
    `ConfigError` beyond `MAX_RUNS`.
    """
    if len(runs) * times > MAX_RUNS:
        raise ConfigError("", f"This plan has {len(runs) * times:,} runs, more than {MAX_RUNS:,}: use fewer repeats.")
    rounds: list[PlannedRun] = []
    for turn in range(times):
        for run in runs:
            seeds = {"seed": (run.config.seed + turn) % 2**31} if turn and is_turnable(run.config, "seed") else {}
            config = with_knobs(run.config, seeds)
            rounds.append(replace(run, config=config, repeat=turn + 1))
    return tuple(rounds)
