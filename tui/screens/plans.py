"""Choosing a plan: one that was cut off, or one of the experiments at a size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.contract.knob import ANSWER, JOBS, OWN_JOBS, SCRIPT, TRAIN
from engine.contract.numbers import n_of
from engine.contract.records import DeviceInfo
from engine.plans.course import NAMED, SCALES, Plan, named_plan, scale_for
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.state.script_plans import script_plans

if TYPE_CHECKING:
    from engine.history.plans import StoredPlan

_OFFERED = 3
"""Plans that can go on, of which the newest are listed."""
_TITLE = 34
_KINDS = {TRAIN: "that train", ANSWER: "with answers", SCRIPT: "of your command"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The plan to start; with a number, the one in the history to go on with, or whose table is to be shown."""

    plan: Plan
    plan_id: int | None = None
    shows_table: bool = False


class PlansScreen(Dialog[Chosen]):
    """Dismissed with the plan that was chosen."""

    TITLE = "The list of plans"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,p", "dismiss", "cancel"),
        Binding("t", "table", "what came of it"),
        Binding("right,plus", "scale(1)", "larger", priority=True),
        Binding("left,minus", "scale(-1)", "smaller", priority=True),
        Binding("j", "job", "another job's"),
    ]

    def __init__(self, config: RunConfig, device: DeviceInfo, plans: Sequence[StoredPlan], waits_for: str) -> None:
        super().__init__()
        self._starts_it = f"Enter starts it when {waits_for} has ended" if waits_for else "Enter starts it"
        self._config, self._device = config, device
        self._interrupted = [stored for stored in plans if stored.can_go_on][:_OFFERED]
        self._newest = {stored.plan.name: stored for stored in reversed(plans) if stored.run_ids}
        kind = read_device(config.device).kind
        self._scale = scale_for(device.kind if kind in ("auto", "cuda") else kind)
        self._job = config.job
        """Whose plans are listed."""
        self._jobs = OWN_JOBS if config.script is None else JOBS
        self._plans: dict[str, Plan | str] = {}

    def compose(self) -> ComposeResult:
        """The list, what the plan under the cursor does, and its sizes."""
        with Vertical(classes="dialog -wide"):
            yield Static(self._heading(), id="job", classes="heading", markup=False)
            yield OptionList(*self._options(), markup=False, classes="more")
            yield Static("", id="about", markup=False)
            yield Static("", id="sizes", classes="why last", markup=False)

    def _heading(self) -> str:
        following = self._jobs[(self._jobs.index(self._job) + 1) % len(self._jobs)]
        return f"Plans {_KINDS[self._job]}   j: those {_KINDS[following]}"

    def _options(self) -> list[Option]:
        """One line a plan."""
        if self._job == SCRIPT:
            plans = script_plans(self._config, self._device)
            self._plans = {f"script-{at}": plan for at, plan in enumerate(plans)}
        else:
            self._plans = {name: self._sized(name) for name, named in NAMED.items() if named.job == self._job}
        options = []
        for stored in self._interrupted:
            total = f" of {stored.plan.total}" if stored.plan.total is not None else ""
            runs = f"{len(stored.run_ids)}{total} runs begun"
            how = "cut off" if stored.ended is None else "stopped"
            options.append(Option(_line(f"go on: {clean(stored.plan.title, 26)}", f"{how}, {runs}"), id=_id(stored)))
        for name, plan in self._plans.items():
            title = NAMED[name].title if name in NAMED else plan.title if isinstance(plan, Plan) else ""
            about = _counted(plan) if isinstance(plan, Plan) else "not possible here"
            about += " · t: its table" if name in self._newest else ""
            options.append(Option(_line(clean(title, _TITLE - 1), about), id=name))
        return options

    def _sized(self, name: str) -> Plan | str:
        total = self._device.memory_total if self._device.kind == "cuda" else None
        try:
            return named_plan(name, self._config, self._scale, memory_total=total)
        except ConfigError as error:
            return clean(error.message, 300)

    def on_mount(self) -> None:
        """Begin at the top."""
        self.query_one(OptionList).highlighted = 0

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell more of the plan under the cursor."""
        self._tell(event.option_id or "")

    def _tell(self, name: str) -> None:
        stored = self._stored(name)
        plan = stored.plan if stored is not None else self._plans.get(name, "")
        about = NAMED[plan.name].description if isinstance(plan, Plan) and plan.name in NAMED else ""
        labels = "" if isinstance(plan, str) else _together([run.label for run in plan.runs if run.is_possible])
        unrun = [] if isinstance(plan, str) else [run for run in plan.runs if run.skip]
        reasons = dict.fromkeys(
            f"{'by forecast' if run.by_forecast else 'left out'}: {clean(run.skip or '', 200)}" for run in unrun
        )
        text = "\n".join([about, clean(labels, 400), *list(reasons)[:2]]).strip()
        self.query_one("#about", Static).update(plan if isinstance(plan, str) else text)
        sizes = "" if isinstance(plan, str) else clean(plan.sizes, 300)
        scales = "  ".join(f"[{scale}]" if scale == self._scale else scale for scale in SCALES)
        choice = "" if self._job == SCRIPT else f"← → sizes: {scales}   "
        self.query_one("#sizes", Static).update(f"{choice}{self._starts_it}\n{sizes}".strip())

    def action_scale(self, direction: int) -> None:
        """Take the next larger or smaller sizes."""
        names = list(SCALES)
        index = max(0, min(len(names) - 1, names.index(self._scale) + direction))
        if names[index] == self._scale or self._job == SCRIPT:
            return
        self._scale = names[index]
        self._list_again(self.query_one(OptionList).highlighted)

    def action_job(self) -> None:
        """List the plans of the other job."""
        self._job = self._jobs[(self._jobs.index(self._job) + 1) % len(self._jobs)]
        self.query_one("#job", Static).update(self._heading())
        self._list_again(0)

    def _list_again(self, at: int | None) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(self._options())
        options.highlighted = at

    def action_table(self) -> None:
        """Show what came of the plan under the cursor, or of its newest start."""
        options = self.query_one(OptionList)
        name = options.get_option_at_index(options.highlighted or 0).id or ""
        stored = self._stored(name) or self._newest.get(name)
        if stored is not None and stored.plan.name in NAMED:
            self.dismiss(Chosen(stored.plan, stored.plan_id, shows_table=True))

    def _stored(self, name: str) -> StoredPlan | None:
        return next((stored for stored in self._interrupted if _id(stored) == name), None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the plan under the cursor."""
        name = event.option_id or ""
        stored = self._stored(name)
        if stored is not None:
            self.dismiss(Chosen(stored.plan, stored.plan_id))
            return
        plan = self._plans[name]
        if isinstance(plan, Plan):
            self.dismiss(Chosen(plan))


def _counted(plan: Plan) -> str:
    """`6 runs, 3 more by forecast`; of a search that it ends when memory does."""
    if plan.total is None:
        return "until out of memory"
    runs = sum(not run.skip for run in plan.runs)
    told = sum(run.by_forecast for run in plan.runs)
    more = f", {told} more by forecast" if told else ""
    return f"{n_of(runs, 'run')}{more}"


def _together(labels: Sequence[str]) -> str:
    """`accumulation 1 · 4 · 8`: the words before the value once, where they are the same."""
    heads = {label.rpartition(" ")[0] for label in labels}
    if len(heads) == 1 and not any("," in label for label in labels):
        labels = [labels[0], *(label.rpartition(" ")[2] for label in labels[1:])]
    return " · ".join(clean(label, 40) for label in labels)


def _id(stored: StoredPlan) -> str:
    return f"stored-{stored.plan_id}"


def _line(title: str, about: str) -> Text:
    return Text.assemble(f"{title:<{_TITLE}}", (about, "dim"))
