"""What would fit instead of a run that was out of memory."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.config import RunConfig
from engine.contract.events import Proposed
from engine.contract.forecast_types import Forecast, Proposal
from engine.contract.numbers import forecast_rate, mib, percent
from tui.screens.dialog import Dialog


class ProposalsScreen(Dialog[RunConfig]):
    """Dismissed with the configuration that was chosen, or with None."""

    TITLE = "The list of what fits"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "none of them")]

    def __init__(self, answer: Proposed) -> None:
        super().__init__()
        self._answer = answer

    def compose(self) -> ComposeResult:
        """One line for every proposal, with its forecast."""
        width = max(len(proposal.label) for proposal in self._answer.proposals)
        lines = [_line(proposal, width) for proposal in self._answer.proposals]
        with Vertical(classes="dialog -wide" if max(map(len, lines)) > _NARROW else "dialog"):
            instead = f"run {self._answer.run_id}" if self._answer.run_id else "the next run"
            yield Static(f"Instead of {instead}, these fit", classes="heading", markup=False)
            made = [proposal.forecast for proposal in self._answer.proposals]
            whose = _PER_GPU if any(each.gpus > 1 for each in made) else _WHOSE
            if any(_writes(each) for each in made):
                whose = _TOKENS
            yield Static(f"Enter sets the knobs of the next run. {whose}", classes="why", markup=False)
            yield OptionList(*map(Option, lines), markup=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the proposal under the cursor."""
        self.dismiss(self._answer.proposals[event.option_index].config)


_NARROW = 64
"""Columns of a line that a dialog of the usual width has room for."""
_WHOSE = "Forecasts: used memory, the card's samples/s."
_TOKENS = "Forecasts: used memory, the card's tokens/s."
_PER_GPU = "Forecasts: used memory per GPU, samples/s of all together."


def _writes(made: Forecast) -> bool:
    """Whether it is of answers: their speed is in tokens."""
    return made.answer is not None and made.answer.generation_tokens_per_s is not None


def _line(proposal: Proposal, width: int) -> str:
    made = proposal.forecast
    per_s = made.answer.generation_tokens_per_s if made.answer is not None and _writes(made) else made.samples_per_s
    speed = f"{forecast_rate(per_s)}/s"
    share = percent(100 * made.peak_used / made.limit, 0)
    near = "  near limit" if made.near_limit else ""
    return f"{proposal.label:<{width}}  {mib(made.peak_used):>5} MiB {share:>5}  {speed:>7}{near}"
