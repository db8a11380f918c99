"""Questions with a few answers: how to quit, and what to stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.cards import CardProcess
from engine.contract.forecast_types import Forecast
from engine.contract.neighbours import who
from engine.contract.numbers import mib
from engine.contract.records import DeviceInfo
from engine.contract.text import capitalised
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.state.knobs import describe
from tui.state.state import State

_QUIT = (
    ("stop", "s  stop and quit: the run ends as stopped, the row is kept"),
    ("wait", "w  keep waiting: the run goes on"),
    ("kill", "k  quit now: the run ends as interrupted"),
)
_QUIT_SCRIPT = (
    ("stop", "s  stop and quit: SIGINT asks the script to end, then SIGTERM, then SIGKILL"),
    ("wait", "w  keep waiting: the run goes on"),
    ("kill", "k  quit now: the script is killed, the run ends as interrupted"),
)
_QUIT_SCRIPT_FURTHER = (
    ("stop", "s  go one signal further, and quit when it has ended"),
    ("wait", "w  keep waiting for the script to end"),
    ("kill", "k  quit now: the script is killed, the run ends as interrupted"),
)
_STOP = (
    ("run", "r  this run only: the plan goes on with its next run"),
    ("plan", "p  the plan: this run ends, and p goes on with the plan later"),
    ("wait", "w  neither"),
)

_STOP_WITH_QUEUE = (
    ("run", "r  this run only: the plan begins"),
    ("queue", "p  the plan only: it does not begin, the run goes on"),
    ("plan", "b  both"),
    ("wait", "w  neither"),
)
_WONT_FIT = (
    ("run", "r  run it anyway, and see where it dies; the next run works"),
    ("fit", "h  see what would fit instead"),
    ("wait", "w  neither"),
)


_BUSY = (
    ("run", "r  run beside them: time and memory will not be this run's alone"),
    ("free", "f  run on a free card: --device free takes the emptiest"),
    ("choose", "c  choose a card: who is on each, and whether the run fits"),
    ("wait", "w  none of it"),
)


class Question(Dialog[str]):
    """A question with a few answers, each with a letter. Dismissed with the answer's name."""

    TITLE = "The question"

    def __init__(self, heading: str, why: str, choices: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self._heading, self._why, self._choices = heading, why, choices

    def compose(self) -> ComposeResult:
        """The question, what it is about, and the answers."""
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="heading", markup=False)
            yield Static(self._why, classes="why", markup=False)
            yield OptionList(*(Option(text, id=name) for name, text in self._choices), markup=False)

    def action_choose(self, how: str) -> None:
        """Take an answer by its letter."""
        self.dismiss(how)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the answer under the cursor."""
        self.dismiss(event.option_id or "wait")


class StopScreen(Question):
    """Asks whether a plan or only its run is to stop: "run", "plan" or "wait"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "choose('run')", "this run"),
        Binding("p", "choose('plan')", "the plan"),
        Binding("w,escape,q", "choose('wait')", "neither"),
    ]

    def __init__(self, state: State) -> None:
        run, plan = state.run, state.plan
        what = (
            f"Run {run.run_id} of {plan.title} is under way: {describe(run.config, run.run_id)}."
            if run and plan
            else ""
        )
        choices = dict(_STOP)
        if state.queued_plans:
            choices["plan"] = "p  the plan, and what waits behind it: p goes on with the plan later"
        super().__init__("Stop?", what, tuple(choices.items()))


class StopWithQueueScreen(Question):
    """Asks what is to stop while a plan waits for the end of the run: "run", "queue", "plan" (both) or "wait"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "choose('run')", "this run"),
        Binding("p", "choose('queue')", "the plan"),
        Binding("b", "choose('plan')", "both"),
        Binding("w,escape,q", "choose('wait')", "neither"),
    ]

    def __init__(self, state: State) -> None:
        run, title = state.run, state.queued_plans[0].title
        what = f"Run {run.run_id} is under way, and the plan {title} waits for its end." if run else ""
        super().__init__("Stop?", what, _STOP_WITH_QUEUE)


class QuitScreen(Question):
    """Dismissed with "stop", "wait" or "kill"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "choose('stop')", "stop and quit"),
        Binding("w,escape,q", "choose('wait')", "keep waiting"),
        Binding("k", "choose('kill')", "quit now"),
    ]

    def __init__(self, state: State) -> None:
        run = state.run if state.running else None
        what = (
            f"Run {run.run_id} is under way: {describe(run.config, run.run_id)}." if run else "A run is about to start."
        )
        choices = _QUIT
        if run is not None and run.script is not None:
            what += f" {capitalised(run.detail)}." if state.stopping else ""
            choices = _QUIT_SCRIPT_FURTHER if state.stopping else _QUIT_SCRIPT
        super().__init__("Quit?", what, choices)


class WontFitScreen(Question):
    """Asks whether to start a run that is forecast to be out of memory: "run", "fit" or "wait"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "choose('run')", "run anyway"),
        Binding("h", "choose('fit')", "what would fit"),
        Binding("w,escape,q", "choose('wait')", "neither"),
    ]

    def __init__(self, made: Forecast) -> None:
        sure = " (it is near the limit, so this is not sure)" if made.near_limit else ""
        what = (
            f"It needs {mib(made.peak_used)} MiB of {mib(made.limit)} and would run out of memory in "
            f"{made.failing_phase}{sure}."
        )
        super().__init__("Out of memory, says the forecast", what, _WONT_FIT)


class BusyCardScreen(Question):
    """Asks whether to start a run on a card that others compute on: "run", "free", "choose" or "wait"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "choose('run')", "beside them"),
        Binding("f", "choose('free')", "on a free card"),
        Binding("c,D", "choose('choose')", "choose a card"),
        Binding("w,escape,q", "choose('wait')", "none of it"),
    ]

    def __init__(self, device: DeviceInfo, processes: Sequence[CardProcess]) -> None:
        what = f"{device.name} ({device.numbers}) is shared with {clean(who(processes), 300)}."
        super().__init__("Somebody is on this card", what, _BUSY)
