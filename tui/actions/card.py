"""Which card the next run is placed on: the list of them, and whom it would share one with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.device_name import read_device
from engine.contract.events import Surveyed
from tui.desk.desk import Desk

if TYPE_CHECKING:
    from engine.contract.cards import CardProcess
    from engine.session.engine import Engine


class CardControl:
    """Owns which neighbours a person was content with."""

    def __init__(self, desk: Desk, session: Engine) -> None:
        self._desk, self._session = desk, session
        self._state = desk.state
        self._asked = False
        self._accepted: frozenset[int] = frozenset()

    def choose(self) -> None:
        """Look at the cards, for `show` to list them."""
        if self._state.loading:
            self._desk.say(f"loading {self._state.loading}: the cards are not known yet")
            return
        self._asked = True
        self._session.survey(self._state.editor.config)
        self._desk.say("looking at the cards …")

    def show(self, answer: Surveyed) -> None:
        """List the cards, where somebody asked."""
        if not self._asked:
            return
        self._asked = False
        if not answer.choices:
            self._desk.say(answer.message or "there is no card to choose")
            return
        from tui.screens.choose_card import ChooseCardScreen

        self._desk.say()
        self._desk.open(ChooseCardScreen(answer, self._state.editor.config.device), self._take)

    def _take(self, device: str | None) -> None:
        if device is not None and self._state.editor.set_value("device", device):
            self._state.notice = f"the next run is on {device}: r runs it, u takes it back"

    @property
    def neighbours(self) -> tuple[CardProcess, ...]:
        """Who computes on the card of the next run, of whom nothing was said yet."""
        seen, ready = self._state.neighbours, self._state.ready
        if seen is None or ready is None or seen.device.uuid != ready.uuid or self._takes_a_free_one:
            return ()
        return () if {process.pid for process in seen.processes} <= self._accepted else seen.processes

    @property
    def _takes_a_free_one(self) -> bool:
        name = read_device(self._state.editor.config.device)
        return name.free and not name.shared

    def accept(self) -> None:
        """The person will share the card with those who are there now."""
        self._accepted = frozenset(process.pid for process in self.neighbours)

    def take_free(self) -> bool:
        """Have the next run choose a free card. False where the knobs refuse that."""
        return self._state.editor.set_value("device", "free")
