"""The screen of the machine's cards, over the panes."""

from __future__ import annotations

from engine.session.cards import CardWatch
from tui.desk.desk import Desk


class AllCardsControl:
    """Owns the watch over the cards, which reads while its screen is open."""

    def __init__(self, desk: Desk, *, ends: bool, paint_s: float) -> None:
        self._desk, self._ends, self._paint_s = desk, ends, paint_s
        self._watch = CardWatch(paint_s)

    def show(self) -> None:
        """All cards of this machine, and who is on them."""
        from tui.screens.cards import CardsScreen

        if self._desk.shows_panes:
            self._desk.open(CardsScreen(self._watch, paint_s=self._paint_s, ends=self._ends))
