"""`traintop sweep`: a plan without the screen: a sweep, the search for the largest batch, or an experiment."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from engine.contract import paths
from engine.contract.command import given_values, values_text
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.contract.events import EngineFailed, EngineReady, Event, PlanFinished
from engine.contract.records import DeviceInfo, RunRecord
from engine.contract.script_flags import with_knobs
from engine.plans.course import NAMED, SCALES, Plan, named_plan, repeat_plan, scale_for, sweep, until_oom
from engine.process.launched import launched
from tui.command_line import exit_codes
from tui.command_line.flags import Parser, UsageError, add_knobs, alone, config_of, listed
from tui.commands.headless import Interrupts, follow, own_streams
from tui.commands.histories import scaling_in, tell_notice
from tui.console.sweep_report import SweepReport

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.history.plans import StoredPlan
    from engine.session.engine import Engine

_WHOLE = frozenset(("data", "text_column", "label_column", "target_column", "command", "command_values"))
"""Knobs whose value may hold a comma: a list of them cannot be given. Those that a script alone knows have theirs in
`--command-values`.
"""
_CLOSE_S = 0.3

PlanOn = Callable[[DeviceInfo], Plan]
"""The plan on the device of its first run."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for: a plan (that waits to know its device), or one to go on with."""

    plan_on: PlanOn
    device: str = "auto"
    """What its first run is placed on."""
    stored: StoredPlan | None = None
    of_scripts: bool = False


def add_flags(parser: Parser) -> None:
    """The flags of `traintop sweep`."""
    parser.take_command("traintop sweep --batch-size 8,16,32 -- python train.py --batch_size={batch_size}")
    group = parser.add_argument_group(
        "the plan",
        "Any knob below takes several values: --batch-size 1,2,4,8 --gradient-checkpointing off,on. Those that only a "
        "script knows have them in --command-values block_size=256,512.",
    )
    group.add_argument(
        "--until-oom",
        action="store_true",
        help="look for the largest batch size that fits: double, then bisect; of a script by its first updates",
    )
    named = "; ".join(f"{plan.name}: {plan.description}" for plan in NAMED.values())
    group.add_argument("--plan", metavar="NAME", help=f"an experiment ({named})".replace("%", "%%"))
    scales = "; ".join(f"{name}: {text}" for name, text in SCALES.items())
    group.add_argument("--scale", metavar="|".join(SCALES), help=f"sizes of --plan ({scales}; default: as the device)")
    group.add_argument("--repeat", metavar="N", help="run everything N times, each time with the next seed")
    group.add_argument(
        "--resume",
        metavar="PLAN",
        nargs="?",
        const="newest",
        help="go on with a plan that was stopped or cut off (its number; default: the newest)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="one JSON object per event and line on stdout, as `traintop run` does, but for the frequent ones; the "
        "last one is plan_finished",
    )
    add_knobs(parser)


def execute(arguments: Namespace) -> int:
    """`traintop sweep`. Raises `ConfigError`, `UsageError` and `HistoryError`."""
    from engine.history.history import History
    from engine.session.capture import log_to_file
    from engine.session.session import Session

    alone(launched(), "A sweep")
    no_log = log_to_file(paths.log_file())
    with History() as history, own_streams() as (out, err), Interrupts(err) as interrupts:
        report = SweepReport(out, err, as_json=arguments.json, scaling=scaling_in(history))
        tell_notice(history, report.say)
        history.mark_interrupted()
        request = request_of(arguments, history)
        if no_log:
            report.say(no_log)
        session = Session(history, device=request.device)
        under_way = PlanUnderWay(session, request, report, interrupts, history)
        if request.of_scripts:  # which need no device of ours, nor PyTorch
            under_way.begin(DeviceInfo(name="", kind="cpu"))
        session.open()
        code = follow(session, report, interrupts, under_way.code_of, never_began="the plan began")
        session.close(0.0 if interrupts.count > interrupts.steps else _CLOSE_S)
        lost = history.close()
        if lost:
            report.say(lost)
    return exit_codes.with_storage(code, lost)


# what is asked for -----------------------------------------------------------------------------------------------


def request_of(arguments: Namespace, history: History) -> Request:
    """The plan that the flags describe. Raises `ConfigError`, `UsageError` and `HistoryError`."""
    from engine.knobs.files import load_knobs
    from engine.session.searching import check_searches
    from engine.session.session import Session

    if arguments.save_config:
        raise UsageError("--save-config keeps the knobs of one run: use it with traintop run.")
    given = {name: value for name, value in vars(arguments).items() if name in KNOBS}
    if arguments.resume is not None:
        if given or arguments.plan or arguments.until_oom or arguments.repeat or arguments.config or arguments.scale:
            raise UsageError("--resume goes on with a plan as it was: leave the other flags out.")
        stored = _stored(arguments.resume, history)
        check_searches(stored.plan)
        first = next((run.config.device for run in stored.plan.runs), "auto")
        of_scripts = all(run.config.is_script for run in stored.plan.runs)
        return Request(lambda device: stored.plan, first, stored, of_scripts)
    if arguments.plan and arguments.until_oom:
        raise UsageError("--plan and --until-oom are two plans: give one of them.")
    if arguments.scale and not arguments.plan:
        raise UsageError("--scale sizes the runs of --plan: give that too, or leave it out.")
    if arguments.plan and "command" in given:
        raise UsageError("--plan has runs of traintop's own: leave the command out, or give a knob several values.")
    if arguments.plan in NAMED and "job" not in given:
        given["job"] = arguments.job = NAMED[arguments.plan].job  # the other flags are read as this job's
    repeat = _repeat(arguments.repeat)
    base, lists = _base_and_lists(arguments, given)
    if base.script is not None:  # refuses the names that it has not
        base.script.own_values(values_text({name: values[0] for name, values in lists.items() if name not in KNOBS}))
    names = {*given, *(load_knobs(arguments.config) if arguments.config else ())}
    Session.check_data(base)  # a file that is missing is told before PyTorch is loaded
    if arguments.plan:
        if lists:
            flag = KNOBS[next(iter(lists))].flag
            raise UsageError(f"--plan {arguments.plan} has its own list of runs: give {flag} one value, or none.")
        return Request(_named(arguments, base, names, repeat), base.device)
    if arguments.until_oom:
        if repeat > 1:
            raise UsageError("--until-oom looks once: leave --repeat out.")
        # a script's own flag, where one was typed, is where to begin
        is_given = "batch_size" in given or arguments.config or base.batch_size != KNOBS["batch_size"].default
        batch_size = {} if is_given else {"batch_size": 1}
        plan = until_oom(with_knobs(base, batch_size), lists, given=names)
        check_searches(plan)
    elif lists or repeat > 1:
        plan = sweep(base, lists, repeat=repeat, given=names)
    else:
        raise UsageError("nothing to sweep: give a knob several values (--batch-size 1,2,4,8), --until-oom or --plan.")
    return Request(lambda device: plan, base.device, of_scripts=base.is_script)


def _base_and_lists(arguments: Namespace, given: dict[str, Any]) -> tuple[RunConfig, dict[str, list[str]]]:
    """The knobs with one value as a configuration, and those with several as texts."""
    lists = {name: listed(name, value) for name, value in given.items() if name not in _WHOLE and "," in value}
    if len(lists.get("device", ())) == 1:
        del lists["device"]  # cuda:0,2,3
    own, lists_of_own = _own_lists(given.get("command_values"))
    lists |= lists_of_own
    single = {name: value for name, value in vars(arguments).items() if name not in lists}
    if lists_of_own:
        single["command_values"] = own
    try:
        return config_of(Namespace(**single)), lists
    except ConfigError:
        # the values may need each other, as --optimizer-in-backward needs --max-grad-norm 0
        knobs = {name: values for name, values in lists.items() if name in KNOBS}
        for combination in product(*knobs.values()):
            chosen = dict(zip(knobs, combination, strict=True))
            try:
                return config_of(Namespace(**{**single, **chosen})), lists
            except ConfigError:
                continue
        raise


def _own_lists(text: str | None) -> tuple[str | None, dict[str, list[str]]]:
    """What `--command-values` says of knobs that a script alone knows: those with one value, and those with several."""
    values = given_values(text)
    lists = {name: [part.strip() for part in value.split(",")] for name, value in values.items() if "," in value}
    return values_text({name: value for name, value in values.items() if name not in lists}), lists


def _named(arguments: Namespace, base: RunConfig, given: Collection[str], repeat: int) -> PlanOn:
    names = set(given)
    if "data" in names:
        names.add("workload")
    if "device" in names and base.is_parallel:
        names.add("gpus")

    def plan_on(device: DeviceInfo) -> Plan:
        named = read_device(base.device).kind
        kind = device.kind if named in ("auto", "cuda") else named
        memory_total = device.memory_total if kind == "cuda" else None
        scale = arguments.scale or scale_for(kind)
        return repeat_plan(named_plan(arguments.plan, base, scale, given=names, memory_total=memory_total), repeat)

    plan_on(DeviceInfo(name="", kind="virtual"))  # a wrong name or size is told before the engine is loaded
    return plan_on


def _repeat(text: str | None) -> int:
    if text is None:
        return 1
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= 1000:
        raise UsageError(f"--repeat {text!r} is not a number of repeats: use 1 to 1,000.")
    return int(text)


def _stored(which: str, history: History) -> StoredPlan:
    waiting = history.plans.interrupted()
    if not waiting:
        raise UsageError("no plan was stopped or cut off: there is nothing to go on with.")
    if which == "newest":
        return waiting[0]
    for stored in waiting:
        if str(stored.plan_id) == which:
            return stored
    known = ", ".join(f"{stored.plan_id} ({stored.plan.name})" for stored in waiting[:8])
    raise UsageError(f"--resume {which!r} is not a plan that can go on: use {known}.")


# following it ----------------------------------------------------------------------------------------------------


class PlanUnderWay:
    """Starts the plan when the engine is ready, and tells the exit code when it is over."""

    def __init__(
        self, session: Engine, request: Request, report: SweepReport, interrupts: Interrupts, history: History
    ) -> None:
        self._session, self._request, self._report = session, request, report
        self._interrupts, self._history = interrupts, history

    def code_of(self, event: Event) -> int | None:
        """The exit code, where the plan is over with this event."""
        if isinstance(event, EngineFailed):
            return exit_codes.FAILED
        if isinstance(event, PlanFinished):
            return self._report.code(event)
        if isinstance(event, EngineReady) and not self._request.of_scripts:
            self.begin(event.device)
        return None

    def begin(self, device: DeviceInfo) -> None:
        """Start the plan as it is on this device."""
        plan, stored = self._request.plan_on(device), self._request.stored
        self._report.begin(plan, _done_before(self._request, self._history))
        if not (self._interrupts.count or self._report.lost):
            self._session.start_plan(plan, stored.plan_id if stored else None)


def _done_before(request: Request, history: History) -> list[RunRecord]:
    if request.stored is None:
        return []
    steps = history.plans.steps(request.stored.plan_id).values()
    return sorted((step.record for step in steps if step.record is not None), key=lambda record: record.run_id)
