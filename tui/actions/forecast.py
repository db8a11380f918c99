"""Forecasts: asked for when a knob turns, and when a run that will not fit is about to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.events import Proposed
from engine.contract.records import Outcome, Phase, RunRecord
from tui.actions.base import ActionsBase

if TYPE_CHECKING:
    from engine.contract.forecast_types import Forecast


class ForecastActions(ActionsBase):
    """What the session is asked about memory."""

    _asked: RunConfig | None = None
    _explained: RunConfig | None = None
    """What a dialog explains: asked about in the next run's place while it is there."""
    _proposing = False

    def _ask_forecast(self) -> None:
        """Ask anew where the next run is another one than was asked about."""
        config = self._explained or self.state.editor.config
        if config is not self._asked and not self.state.playback:
            self._asked = config
            self.session.forecast(config)

    def _forecast_of_next(self) -> Forecast | None:
        """The forecast of the next run, if it is known by now."""
        answer = self.state.forecast
        return answer.forecast if answer is not None and answer.config == self.state.editor.config else None

    def action_propose(self) -> None:
        """What would fit instead of the selected run, or of the newest, that was out of memory."""
        dead = [row for row in self.state.rows if row.outcome is Outcome.OUT_OF_MEMORY]
        selected = self.state.selected
        row = selected if selected in dead else max(dead, key=lambda run: run.run_id, default=None)
        if row is None:
            self._say("no run was out of memory")
            return
        self._proposing = True
        self.session.propose(row)
        self._say(f"looking for what fits instead of run {row.run_id} …")

    def _propose_for_next(self) -> None:
        """What would fit instead of the next run, which is forecast to be out of memory."""
        made = self._forecast_of_next()
        if made is None or made.failing_phase is None:
            return
        phase = Phase(made.failing_phase)
        config = self.state.editor.config
        self._proposing = True
        self.session.propose(RunRecord(run_id=0, config=config, outcome=Outcome.OUT_OF_MEMORY, failed_phase=phase))
        self._say("looking for what fits …")

    def _show_proposals(self, answer: Proposed) -> None:
        if not self._proposing:
            return
        self._proposing = False
        if not answer.proposals:
            self._say("nothing near it fits: take a smaller model or a larger GPU")
            return
        from tui.screens.proposals import ProposalsScreen

        self.state.notice = ""
        self.push_screen(ProposalsScreen(answer), self._take_proposal)

    def _take_proposal(self, config: RunConfig | None) -> None:
        if config is not None:
            self.state.editor.replace(config)
            self.state.notice = "the next run is what was proposed: r runs it"
        self._back()
