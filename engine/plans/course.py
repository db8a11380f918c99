"""Plans: sweeps over knobs, searches for what fits, the experiments. Standard library only.

Definitions are data (`Plan`); `Course` walks through one, told how every run ended. Nothing here runs anything:
`engine.session.plan_runner` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from engine.contract import script_flags
from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, DUMMY_PROMPTS
from engine.contract.config import KNOBS, ConfigError, RunConfig, Value, coerce
from engine.contract.device_name import gpus_of_device
from engine.contract.forecast_types import Foretold
from engine.contract.idle import idle_parallel, without_idle_parallel
from engine.contract.knob import check
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_flags import own_names, with_knobs
from engine.plans.experiment import SCALES, NamedPlan
from engine.plans.named import NAMED, named_plan, scale_for
from engine.plans.search import BATCH_SIZE, PROMPT_LEN, TRY_UPDATES, Fit, LimitSearch, config_of_try
from engine.plans.types import MAX_RUNS, Plan, PlannedRun, from_json, label_of, repeated, to_json

__all__ = [
    "NAMED",
    "SCALES",
    "Course",
    "Fit",
    "Hopeless",
    "LimitSearch",
    "NamedPlan",
    "Plan",
    "PlannedRun",
    "Step",
    "Verdict",
    "from_json",
    "grid",
    "label_of",
    "named_plan",
    "repeat_plan",
    "scale_for",
    "sweep",
    "to_json",
    "until_oom",
]

Hopeless = Callable[[RunConfig], str | None]
"""Why a configuration surely does not fit, in a few words; None where it may fit or nothing is known."""


def grid(
    base: RunConfig, values: Mapping[str, Sequence[object]], *, given: Collection[str] = ()
) -> tuple[PlannedRun, ...]:
    """`base` with every combination of the knobs' values, the last knob changing fastest.

    Values are read as `coerce` reads them; one that is given twice counts once, and so do runs that differ in how
    several GPUs share what one of them does alone. A device of several GPUs takes all that it names, unless `gpus` is
    among the knobs of `base` that were `given`. A combination that makes no sense is there with the reason why it is
    skipped. Raises `ConfigError` on an unknown knob, on a value that its knob can never have, and beyond `MAX_RUNS`.
    """
    own = own_names(base)
    lists = {name: _own_values(texts) if name in own else _values(name, texts) for name, texts in values.items()}
    if (n := prod(map(len, lists.values()))) > MAX_RUNS:
        raise ConfigError("", f"These values make {n:,} runs, more than {MAX_RUNS:,}: give fewer of them.")
    over_gpus = not base.is_script and any(KNOBS[name].group == "parallel" for name in lists)
    runs: dict[object, PlannedRun] = {}
    for combination in product(*lists.values()):
        chosen: dict[str, Value] = dict(zip(lists, combination, strict=True))
        named = {} if "gpus" in given or base.gpus != 1 or base.is_script else gpus_of_device(chosen)
        try:
            config = with_knobs(base, {**chosen, **named})
        except ConfigError as error:
            label = label_of(chosen)
            runs[label] = PlannedRun(config=base, label=label, skip=error.message)
            continue
        if over_gpus:
            idle = idle_parallel(config)
            config = without_idle_parallel(config)
            chosen = {name: value for name, value in chosen.items() if name not in idle}
        runs.setdefault(config, PlannedRun(config=config, label=label_of(chosen)))
    return tuple(runs.values())


def _values(name: str, texts: Sequence[object]) -> list[Value]:
    if name not in KNOBS:
        raise ConfigError(name, f"{name!r} is not a knob; the knobs are {', '.join(KNOBS)}.")
    knob = KNOBS[name]
    values = list(dict.fromkeys(coerce(knob, text) for text in texts))
    for value in values:
        check(knob, value)
    return values


def _own_values(texts: Sequence[object]) -> list[Value]:
    return list(dict.fromkeys(map(str, texts)))


def sweep(
    base: RunConfig, values: Mapping[str, Sequence[object]], *, repeat: int = 1, given: Collection[str] = ()
) -> Plan:
    """A plan of `grid`, `repeat` times over. Raises `ConfigError` as `grid` does, and when nothing can be run."""
    runs = grid(base, values, given=given)
    if all(run.skip for run in runs):
        raise ConfigError("", f"None of these combinations can be run: {runs[0].skip}")
    names = " × ".join(script_flags.label_of(name) for name, texts in values.items() if len(texts) > 1)
    return Plan(name="sweep", title=f"Sweep over {names}" if names else "Repeats", runs=repeated(runs, repeat))


def repeat_plan(plan: Plan, times: int) -> Plan:
    """The plan, `times` times over, each time with the next seed. Raises `ConfigError` beyond `MAX_RUNS`."""
    return replace(plan, runs=repeated(plan.runs, times))


def until_oom(
    base: RunConfig, values: Mapping[str, Sequence[object]] | None = None, *, given: Collection[str] = ()
) -> Plan:
    """The search for the largest batch size that fits, from `base.batch_size` on, for every combination of `values`.

    Raises `ConfigError` as `sweep` does, and on a CPU, which has no VRAM to run out of.
    """
    if base.device == "cpu" or "cpu" in (values or {}).get("device", ()):
        raise ConfigError("device", no_limit(base))
    if values and "batch_size" in values and len(values["batch_size"]) > 1:
        raise ConfigError("batch_size", "--until-oom chooses the batch size: give one to begin with, or none.")
    searches = tuple(_searched(run) for run in grid(base, values or {}, given=given))
    if all(run.skip for run in searches):
        raise ConfigError("", f"None of these combinations can be run: {searches[0].skip}")
    return Plan(name="until-oom", title="The largest batch size that fits", runs=searches)


def _searched(run: PlannedRun) -> PlannedRun:
    """The search from a run on; skipped where it may be run with its own batch size alone, as speculation may."""
    try:
        config_of_try(run.config, BATCH_SIZE, max(2, run.config.batch_size))
    except ConfigError as error:
        return replace(run, search=BATCH_SIZE, skip=run.skip or error.message)
    return replace(run, search=BATCH_SIZE)


def no_limit(config: RunConfig) -> str:
    """Why nothing is searched on a CPU, and what to do."""
    other = "use a CUDA GPU" if config.is_script else "use --device virtual:tesla-p4, or a GPU that is there"
    return f"a CPU has no VRAM to run out of: {other}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a plan does next: one run, or (`skip`) one that is not run, and why."""

    item: int
    """Its place in the plan's runs."""
    config: RunConfig
    label: str
    repeat: int = 1
    skip: str | None = None
    by_forecast: bool = False
    """True where `foretold` stands for the run that is not made."""
    foretold: Foretold | None = None
    tries: int | None = None
    """The batch size, or the prompt length, that a search tries here."""

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from the plan's other steps, in this process and in the next one."""
        return self.item, self.tries or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a step ended: with a record, or without one and why (`skipped`, refused)."""

    record: RunRecord | None = None
    why: str = ""
    skipped: bool = False
    """It was not run because it surely does not fit, or cannot be."""


class Course:
    """The way through one plan. Ask `next`, do it, `tell` how it ended. Pure: equal answers make equal ways."""

    def __init__(self, plan: Plan, hopeless: Hopeless = lambda config: None) -> None:
        self._plan = plan
        self._hopeless = hopeless
        self._item = 0
        self._search: LimitSearch | None = None
        self._step: Step | None = None
        self.findings: list[str] = []
        """What the searches found, a sentence each."""

    @property
    def total(self) -> int | None:
        """How many steps there are; None where a search decides."""
        return self._plan.total

    def next(self) -> Step | None:
        """The next step; None when the plan is through. The same until it is told."""
        self._step = self._step or self._find()
        return self._step

    def upcoming(self, step: Step) -> PlannedRun | None:
        """The run after `step`, however that ends; None where there is none, or where a search decides."""
        if step.tries is not None:
            return None
        following = next((run for run in self._plan.runs[step.item + 1 :] if not run.skip), None)
        return following if following is not None and not following.search else None

    def _find(self) -> Step | None:
        while self._item < len(self._plan.runs):
            planned = self._plan.runs[self._item]
            if not planned.search or planned.skip:
                return Step(
                    item=self._item,
                    config=planned.config,
                    label=planned.label,
                    repeat=planned.repeat,
                    skip=planned.skip,
                    by_forecast=planned.by_forecast,
                    foretold=planned.foretold,
                )
            if self._search is None:
                self._search = _begin(planned)
            tries = self._search.next()
            if tries is not None:
                return self._try(planned, tries)
            finding = self._search.finding()
            self.findings.append(f"{planned.label}: {finding}" if planned.label else finding)
            self._item, self._search = self._item + 1, None
        return None

    def _try(self, planned: PlannedRun, value: int) -> Step:
        label = ", ".join(filter(None, (planned.label, label_of({planned.search: value}))))
        config = config_of_try(planned.config, planned.search, value)
        return Step(item=self._item, config=config, label=label, skip=self._known_not_to_fit(config), tries=value)

    def _known_not_to_fit(self, config: RunConfig) -> str | None:
        # a forecast takes every text for a full one, which these need not be
        full = config.prompts == DUMMY_PROMPTS if config.answers else config.workload == "dummy"
        return self._hopeless(config) if full or config.padding == "max_length" else None

    def tell(self, step: Step, verdict: Verdict) -> None:
        """How `step` ended. A run that failed does not end a plan, only the search it was a try of."""
        self._step = None
        if self._search is not None and step.tries is not None:
            self._search.tell(step.tries, *_fit(verdict, self._search))
        else:
            self._item += 1


def _begin(planned: PlannedRun) -> LimitSearch:
    config = planned.config
    if planned.search == PROMPT_LEN:
        largest = int(KNOBS[PROMPT_LEN].maximum or 0)
        return LimitSearch(knob=PROMPT_LEN, first=config.prompt_len or DEFAULT_PROMPT_LEN, largest=largest)
    return LimitSearch(first=config.batch_size)


def _fit(verdict: Verdict, search: LimitSearch) -> tuple[Fit, str]:
    record = verdict.record
    if record is None:
        if verdict.skipped:
            return Fit.TOO_LARGE, ""
        # what a shorter prompt was not refused for is its length
        is_too_long = search.knob == PROMPT_LEN and search.fits
        return (Fit.NO_DATA, "") if is_too_long else (Fit.BROKEN, verdict.why)
    if record.outcome is Outcome.OUT_OF_MEMORY:
        return Fit.TOO_LARGE, ""
    if record.device is not None and record.device.kind == "cpu":
        return Fit.BROKEN, no_limit(record.config)
    if record.outcome is not Outcome.COMPLETED:
        return Fit.BROKEN, record.message or record.outcome.value
    return (Fit.FITS, "") if _was_full(record, search) else (Fit.NO_DATA, "")


def _was_full(record: RunRecord, search: LimitSearch) -> bool:
    """Whether there was enough to do for what was tried."""
    if not record.config.answers:
        return record.updates >= TRY_UPDATES
    n_requests = record.answer.n_requests if record.answer is not None else 0
    return search.knob == PROMPT_LEN or n_requests >= record.config.batch_size


def is_over(record: RunRecord) -> bool:
    """Whether a run ended by itself, so that a plan that goes on need not do it again."""
    return record.outcome in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY, Outcome.FAILED)
