"""Who does what: the controllers, each made with what it needs, and the action that each key and command names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import App

from tui.actions.all_cards import AllCardsControl
from tui.actions.asking import AskControl
from tui.actions.baseline import BaselineControl
from tui.actions.card import CardControl
from tui.actions.cursor import CursorControl
from tui.actions.earlier import EarlierControl
from tui.actions.explain import ExplainControl
from tui.actions.forecast import ForecastControl
from tui.actions.hand_over import HandOverControl
from tui.actions.knobs import KnobControl
from tui.actions.plans import PlanControl
from tui.actions.presenter import PresenterControl
from tui.actions.quitting import QuitControl
from tui.actions.ranks import RankControl
from tui.actions.read_only import ReadOnlyControl
from tui.actions.results import ResultsControl
from tui.actions.runs import RunControl
from tui.actions.saving import SavingControl
from tui.actions.view import ViewControl
from tui.desk.alerts import AlertControl
from tui.desk.desk import Desk
from tui.desk.faults import Faults
from tui.desk.meter import MeterControl
from tui.desk.painter import Painter
from tui.desk.readings import Readings
from tui.state.state import State

if TYPE_CHECKING:
    from engine.session.engine import Engine
    from tui.terminal.link import Link
    from tui.terminal.signals import Signals


class Controllers:
    """All of them over one state. What a controller owns is said in its docstring; the rest of it is read only."""

    def __init__(
        self,
        app: App[str],
        state: State,
        session: Engine,
        *,
        link: Link,
        slow_link: bool,
        signals: Signals | None,
        rings: bool,
        read_only: bool,
    ) -> None:
        self.painter = Painter(app, state, link, slow_link=slow_link)
        self.desk = Desk(app, state, self.painter)
        self.faults = Faults(self.desk)
        self.readings = Readings(self.desk, session)
        self.alerts = AlertControl(self.desk, rings=rings)
        self.meter = MeterControl(self.desk)
        self.view = ViewControl(self.desk)
        self.all_cards = AllCardsControl(self.desk, ends=not read_only, paint_s=2.5 if slow_link else 0.5)
        self.presenter = PresenterControl(self.desk)
        self.cursor = CursorControl(self.desk)
        self.ranks = RankControl(self.desk)
        self.knobs = KnobControl(self.desk)
        self.hand_over = HandOverControl(self.desk, self.readings, session)
        self.forecasts = ForecastControl(self.desk, session)
        self.explain = ExplainControl(self.desk, self.forecasts)
        self.cards = CardControl(self.desk, session)
        self.runs = RunControl(self.desk, self.forecasts, self.cards, session)
        self.asking = AskControl(self.desk, self.runs, session)
        self.plans = PlanControl(self.desk, self.readings, session)
        self.quitting = QuitControl(self.desk, self.runs, session, signals)
        self.baseline = BaselineControl(self.desk, self.readings, session)
        self.results = ResultsControl(self.desk, self.baseline, session)
        self.saving = SavingControl(self.desk, self.runs, self.readings, session)
        self.earlier = EarlierControl(self.desk, self.readings, self.baseline)
        self.read_only = ReadOnlyControl(self.desk, self.baseline, session, is_on=read_only)

    def actions(self) -> dict[str, Callable[..., object]]:
        """What each of the app's actions calls, by the name that keys, commands and panes have for it."""
        return {
            "run": self.runs.run,
            "stop": self.runs.stop,
            "skip": self.runs.skip,
            "job": self.knobs.turn_job,
            "ask": self.asking.ask,
            "plans": self.plans.choose,
            "pause": self.plans.pause,
            "quit": self.quitting.quit,
            "step": self.knobs.step,
            "turn": self.knobs.turn,
            "move_knob": self.knobs.move,
            "select_knob": self.knobs.select,
            "type_value": self.knobs.type_value,
            "fold": self.knobs.fold,
            "fold_all": self.knobs.fold_all,
            "find_knob": self.knobs.find,
            "named": self.knobs.choose_named,
            "undo": self.knobs.undo,
            "explain": self.explain.explain,
            "propose": self.forecasts.propose,
            "choose_card": self.cards.choose,
            "move_row": self.results.move,
            "select_row": self.results.select,
            "mark": self.results.mark,
            "sort": self.results.sort,
            "reverse_sort": self.results.reverse,
            "filter": self.results.filter,
            "note": self.results.note,
            "delete": self.results.delete,
            "restore": self.results.restore,
            "run_details": self.results.details,
            "pin": self.baseline.pin,
            "export": self.hand_over.export,
            "copy_command": self.hand_over.copy_command,
            "copy_script": self.hand_over.copy_script,
            "save_model": self.saving.save_model,
            "resume": self.saving.resume,
            "screenshot": self.hand_over.save_picture,
            "cursor": self.cursor.toggle,
            "move_cursor": self.cursor.move,
            "leave_cursor": self.cursor.leave,
            "zoom": self.view.zoom,
            "back": lambda: self.view.unzoom() or self.results.show_all(),
            "next_pane": self.view.next_pane,
            "log_scale": self.view.log_scale,
            "recent": self.view.recent,
            "cycle_theme": self.view.cycle_theme,
            "scroll_log": self.view.scroll_log,
            "log": self.view.log,
            "choose_rank": self.ranks.choose,
            "ranks": self.ranks.details,
            "cards": self.all_cards.show,
            "help": self.view.help,
            "presenter": self.presenter.toggle,
            "meter": self.meter.toggle,
            "replay_pause": self.read_only.pause,
            "replay_speed": self.read_only.change_speed,
            "replay_seek": self.read_only.seek,
        }
