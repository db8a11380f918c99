"""What a knob or a run does, and how an update of it fills the memory."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted
from tui.actions.forecast import ForecastControl
from tui.desk.desk import Desk


class ExplainControl:
    """Owns what is explained: as long as it is, its forecast is asked for in the next run's place."""

    def __init__(self, desk: Desk, forecasts: ForecastControl) -> None:
        self._desk, self._forecasts = desk, forecasts
        self.config: RunConfig | None = None
        """What the dialog explains; None while there is none."""

    def explain(self) -> None:
        """What the knob under the cursor does and why; of a run in the results table, what became of it."""
        from tui.screens.explain import ExplainScreen
        from tui.state.explain import group_text, knob_text, run_text

        state = self._desk.state
        row, base = state.selected, state.base
        config = state.editor.config
        if self._desk.on_results and row is not None:
            config = row.config
            heading, lines = run_text(row, state.finished, base)
        else:
            place = state.editor.list.cursor
            heading, lines = (
                knob_text(place, state.finished, base, config) if place.knob else group_text(place.group, config)
            )
        known = state.forecast if state.forecast is not None and state.forecast.config == config else None
        self.config = config
        self._desk.open(ExplainScreen(heading, lines, None if state.playback else config, known), self._done)

    def _done(self, what: str | None) -> None:
        self.config = None
        if what == "propose":
            self._forecasts.propose()

    def show(self, answer: Forecasted) -> None:
        """Hand an answer to the explanation on the screen."""
        from tui.screens.explain import ExplainScreen

        screen = self._desk.app.screen
        if isinstance(screen, ExplainScreen):
            screen.take(answer)
