"""Choosing the card of the next run: who is on each, and whether the run fits there."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.choices import CardChoice
from engine.contract.events import Surveyed
from engine.contract.neighbours import who
from engine.contract.numbers import mib, percent
from tui.drawing.cells import cut
from tui.drawing.text import clean
from tui.screens.dialog import Dialog

FREE = "free"
_BESIDE = 40
"""Columns of a line and of the dialog around it, without where the card is and what is used of it."""
_LEAST = 8


class ChooseCardScreen(Dialog[str]):
    """Dismissed with what `--device` calls the chosen card, with "free", or with None."""

    TITLE = "The list of cards"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,D", "dismiss", "cancel"),
        Binding("f", "free", "whichever is free when the run begins"),
    ]

    def __init__(self, answer: Surveyed, device: str) -> None:
        super().__init__()
        self._answer, self._device = answer, device
        self._names = [choice.name for choice in answer.choices] + [FREE]

    def compose(self) -> ComposeResult:
        """A line for every card, and who is on the one under the cursor."""
        choices = self._answer.choices
        used = max(len(_used(choice)) for choice in choices)
        room = max(_LEAST, self.app.size.width - _BESIDE - used)
        width = min(room, max(cell_len(_where(choice)) for choice in choices))
        with Vertical(classes="dialog -wide"):
            yield Static("The card of the next run", classes="heading", markup=False)
            if self._answer.message:
                yield Static(clean(self._answer.message, 400), classes="why", markup=False)
            options = [Option(_line(choice, width, used)) for choice in choices]
            last = Option(Text.assemble(f"{'free':<{width}}", ("  the emptiest when the run begins (f)", "dim")))
            yield OptionList(*options, last, markup=False, classes="more")
            yield Static("", id="about", classes="why last", markup=False)

    def on_mount(self) -> None:
        """Begin at the card that the next run has now, else at the best one."""
        now = self._names.index(self._device) if self._device in self._names else None
        good = (index for index, each in enumerate(self._answer.choices) if not each.taken and _fits(each))
        self.query_one(OptionList).highlighted = next(good, len(self._names) - 1) if now is None else now

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell more of the card under the cursor."""
        about = "Enter takes it for the next run; r then runs it."
        if event.option_index < len(self._answer.choices):
            about = f"{_about(self._answer.choices[event.option_index])}\n{about}"
        self.query_one("#about", Static).update(about)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the card under the cursor."""
        self.dismiss(self._names[event.option_index])

    def action_free(self) -> None:
        """Leave the choice to the moment when the run begins."""
        self.dismiss(FREE)


def _where(choice: CardChoice) -> str:
    """`cuda:1 = gpu 3  Tesla P4`."""
    return f"{choice.device.numbers}  {clean(choice.device.name, 28)}"


def _used(choice: CardChoice) -> str:
    return f"{mib(choice.used)} of {mib(choice.device.memory_total)} MiB"


def _line(choice: CardChoice, width: int, used: int) -> Text:
    where = cut(_where(choice), width)
    return Text.assemble(
        f"{where}{' ' * (width - cell_len(where))} {_used(choice):>{used}} {percent(choice.utilization, 0):>5} ",
        ("taken ", "dim") if choice.taken else "free  ",
        _verdict(choice),
    )


def _fits(choice: CardChoice) -> bool:
    return choice.forecast is not None and choice.forecast.fits


def _verdict(choice: CardChoice) -> tuple[str, str]:
    """`fits, 40 % left`."""
    made = choice.forecast
    if made is None:
        return "no forecast", "dim"
    if not made.fits:
        return "out of memory", "bold"
    left = percent(100 - 100 * made.peak_used / made.limit, 0)
    return f"{'near the limit' if made.near_limit else 'fits'}, {left} left", ""


def _about(choice: CardChoice) -> str:
    """Its UUID, and who is there."""
    there = f"shared with {clean(who(choice.others), 300)}" if choice.others else "nobody computes there"
    if choice.taken and not choice.others:
        there = "somebody who is not seen from here has it"
    return "\n".join(filter(None, (choice.device.uuid, cut(there, 400), clean(choice.message or "", 300))))
