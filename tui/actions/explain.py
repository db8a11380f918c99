"""What a knob or a run does, and how an update of it fills the memory."""

from __future__ import annotations

from engine.contract.events import Forecasted
from tui.actions.forecast import ForecastActions


class ExplainActions(ForecastActions):
    """The forecast that is asked for is that of what is explained, as long as it is."""

    def action_explain(self) -> None:
        """What the knob under the cursor does and why; of a run in the results table, what became of it."""
        from tui.screens.explain import ExplainScreen
        from tui.state.explain import knob_text, run_text

        state = self.state
        row, base = state.selected, state.record_of(state.baseline)
        config = state.editor.config
        if self._on_results and row is not None:
            config = row.config
            heading, lines = run_text(row, state.finished, base)
        else:
            heading, lines = knob_text(state.editor.selected, state.finished, base, config)
        known = state.forecast if state.forecast is not None and state.forecast.config == config else None
        self._explained = config
        self.push_screen(ExplainScreen(heading, lines, None if state.playback else config, known), self._explain_done)

    def _explain_done(self, what: str | None) -> None:
        self._explained = None
        if what == "propose":
            self.action_propose()
        self._back()

    def _show_timeline(self, answer: Forecasted) -> None:
        """Hand an answer to the explanation on the screen."""
        from tui.screens.explain import ExplainScreen

        if isinstance(self.screen, ExplainScreen):
            self.screen.take(answer)
