"""Forecasts: asked for when a knob turns, and when a run that will not fit is about to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.events import Proposed
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from tui.desk.desk import Desk
from tui.state.knobs import turned

if TYPE_CHECKING:
    from engine.contract.forecast_types import Forecast
    from engine.session.engine import Engine


class ForecastControl:
    """Owns what the session was asked about memory."""

    def __init__(self, desk: Desk, session: Engine) -> None:
        self._desk, self._session = desk, session
        self._state = desk.state
        self._asked: RunConfig | None = None
        self._device = desk.state.editor.config.device  # the session begins with it
        self._ready: DeviceInfo | None = None
        self._auto = ""
        """What kind of device `auto` stands for; empty while that was not told."""
        self._proposing = False
        self._instead_of: RunConfig | None = None
        """The next run that is to be replaced; None where it is a run of the past."""

    def ask(self, explained: RunConfig | None) -> None:
        """Ask anew where the next run, or what a dialog explains in its place, is not what was asked about."""
        config = explained or self._state.editor.config
        device = self._next_device()
        if device != self._device and not self._state.playback:
            self._device, self._ready = device, self._state.ready
            self._session.look_at(device)
        if config is not self._asked and not self._state.playback:
            self._asked = config
            self._session.forecast(config)

    def _next_device(self) -> str:
        """The device of the next run. A script knows no virtual GPU: where `auto` is one, the script's is the CPU."""
        config, ready = self._state.editor.config, self._state.ready
        if self._device == "auto" and ready is not None and ready is not self._ready:
            self._auto = ready.kind
        return "cpu" if config.is_script and config.device == "auto" and self._auto == "virtual" else config.device

    def of_next(self) -> Forecast | None:
        """The forecast of the next run, if it is known by now."""
        answer = self._state.forecast
        return answer.forecast if answer is not None and answer.config == self._state.editor.config else None

    def propose(self) -> None:
        """What would fit instead of the selected run, or of the newest, that was out of memory."""
        dead = [row for row in self._state.rows if row.outcome is Outcome.OUT_OF_MEMORY]
        if dead and dead[0].config.is_script:
            self._desk.say("what a script would need is not known: take a smaller batch, or p searches the largest")
            return
        selected = self._state.selected
        row = selected if selected in dead else max(dead, key=lambda run: run.run_id, default=None)
        if row is None:
            self._desk.say("no run was out of memory")
            return
        self._proposing, self._instead_of = True, None
        self._session.propose(row)
        self._desk.say(f"looking for what fits instead of run {row.run_id} …")

    def propose_for_next(self) -> None:
        """What would fit instead of the next run, which is forecast to be out of memory."""
        made = self.of_next()
        if made is None or made.failing_phase is None:
            return
        phase = Phase(made.failing_phase)
        config = self._state.editor.config
        self._proposing, self._instead_of = True, config
        self._session.propose(RunRecord(run_id=0, config=config, outcome=Outcome.OUT_OF_MEMORY, failed_phase=phase))
        self._desk.say("looking for what fits …")

    def show(self, answer: Proposed) -> None:
        """Offer what fits, where somebody asked."""
        if not self._proposing:
            return
        self._proposing = False
        if self._instead_of is not None and self._instead_of != self._state.editor.config:
            self._desk.say("the knobs were turned meanwhile: what fits was for others")
            return
        if not answer.proposals:
            self._desk.say("nothing near it fits: take a smaller model or a larger GPU")
            return
        if not self._desk.shows_panes:  # somebody went on to something else, and keys are meant for that
            self._desk.say("what fits instead is known: h shows it")
            return
        from tui.screens.proposals import ProposalsScreen

        self._desk.say()
        self._desk.open(ProposalsScreen(answer), self._take)

    def _take(self, config: RunConfig | None) -> None:
        if config is not None:
            changes = turned(self._state.editor.config, config)
            self._state.editor.load(config)
            told = f"proposed: {changes}; r runs it, u takes it back"
            self._state.notice = told if changes else "the next run is that already"
