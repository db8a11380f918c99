"""The screen of all cards: keys, the cursor, a process's details, and ending a process of one's own."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.panes.cards import CardsPane
from tui.screens.dialog import Dialog
from tui.state.cards import STALE_S, CardsView

if TYPE_CHECKING:
    from engine.contract.cards import CardProcess
    from engine.session.cards import CardWatch

PAINT_S = 0.5
END_S = 5.0
"""How long a process that was asked to end may take before it is asked about again."""
_LOOK_S = 0.25
_ROLES = {
    "text": "$foreground",
    "muted": "$foreground 62%",
    "frame": "$foreground 32%",
    "ghost": "$foreground 40%",
    "value": "$foreground; text-style: bold",
    "title": "$foreground; text-style: bold",
    "brand": "$background; background: $t-accent; text-style: bold",
    "cursor": "$background; background: $t-accent; text-style: bold",
    "key": "$t-accent; text-style: bold",
    "accent": "$t-accent",
    "pending": "$t-pending; text-style: bold",
    "warn": "$t-warn",
    "bad": "$t-bad; text-style: bold",
    "gpu": "$t-gpu; text-style: bold",
    "memory": "$t-memory; text-style: bold",
}


class CardsScreen(Dialog[None]):
    """Shows what a `CardWatch` reads. `leave` is called by the keys that close it, None where it is just dismissed."""

    TITLE = "The screen of the cards"
    COMPONENT_CLASSES: ClassVar[set[str]] = set(_ROLES)
    DEFAULT_CSS = "\n".join(f"CardsScreen > .{role} {{ color: {style}; }}" for role, style in _ROLES.items())
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "row", key_display="↑↓"),
        Binding("down,j", "move(1)", "next row", show=False),
        Binding("pageup", "move(-10)", "10 rows up", show=False),
        Binding("pagedown", "move(10)", "10 rows down", show=False),
        Binding("home", "move(-100000)", "first row", show=False),
        Binding("end", "move(100000)", "last row", show=False),
        Binding("enter", "details", "details", key_display="Enter"),
        Binding("less_than_sign", "sort(-1)", "sort, the other way", show=False),
        Binding("greater_than_sign", "sort(1)", "sort", key_display="< >"),
        Binding("m", "only_mine", "mine"),
        Binding("k", "end", "end yours"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q,escape,P", "leave", "close", key_display="q"),
    ]

    def __init__(
        self,
        watch: CardWatch,
        *,
        leave: Callable[[], object] | None = None,
        paint_s: float = PAINT_S,
        ends: bool = True,
    ) -> None:
        super().__init__()
        self.view = CardsView(stale_s=max(STALE_S, 4 * paint_s))
        self._watch, self._leave, self._paint_s, self._ends = watch, leave, paint_s, ends
        shown = [binding for binding in self.BINDINGS if isinstance(binding, Binding) and binding.show]
        self.view.hints = tuple(
            (binding.key_display or binding.key, binding.description) for binding in shown if ends or binding.key != "k"
        )
        self._waits: tuple[CardProcess, float] | None = None

    def compose(self) -> ComposeResult:
        """One pane for everything."""
        yield CardsPane(self.view, f"traintop top · {platform.node()}", "cards")

    def on_mount(self) -> None:
        """Begin to read once this is painted."""
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._watch.open()
        self.set_interval(self._paint_s, self._turn)
        self.set_timer(min(0.1, self._paint_s), self.show)

    def on_unmount(self) -> None:
        """Nobody looks any more."""
        self._watch.close()

    def _turn(self) -> None:
        """Show what is new."""
        if self._watch.newest is not self.view.reading or (self._watch.age_s or 0.0) > self.view.stale_s:
            self.show()

    def show(self) -> None:
        """Paint the newest reading, unless a dialog lies over it or the terminal does not take what it was sent."""
        self.view.reading, self.view.age_s = self._watch.newest, self._watch.age_s or 0.0
        if self.view.selected is None:
            self.view.select(0)
        link = getattr(self.app, "link", None)
        if self.app.screen is self and not (link is not None and link.behind):
            self.query_one(CardsPane).paint()

    def say(self, notice: str = "") -> None:
        """Answer a key in the last line."""
        self.view.notice = notice
        self.show()

    def on_cards_pane_clicked(self, event: CardsPane.Clicked) -> None:
        """Put the cursor where it was clicked."""
        self.view.select(event.index)
        self.say()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.view.move(by)
        self.say()

    def action_sort(self, direction: int) -> None:
        """Order the processes of each card by another column."""
        self.view.sort_by_next(direction)
        self.say(f"by {self.view.sort}")

    def action_only_mine(self) -> None:
        """Show your own processes only, or all."""
        self.view.only_mine = not self.view.only_mine
        self.say("your processes only" if self.view.only_mine else "everybody's processes")

    def action_details(self) -> None:
        """Everything known about the card or the process under the cursor."""
        row = self.view.row
        if row is None or self.view.reading is None:
            return
        from engine.session.cards import environment_of
        from tui.screens.card_details import details_of

        environment = environment_of(row.process) if row.process is not None and row.process.mine else {}
        self.app.push_screen(details_of(row, self.view.reading, environment))

    def action_help(self) -> None:
        """The keys, and what the columns mean."""
        from tui.screens.card_details import help_screen

        bindings = [binding for binding in self.BINDINGS if isinstance(binding, Binding)]
        self.app.push_screen(help_screen(bindings))

    def action_leave(self) -> None:
        """Close it, or leave the program whose only screen it is."""
        if self._leave is not None:
            self._leave()
        else:
            self.dismiss()

    # ending a process -------------------------------------------------------------------------------------------

    def action_end(self) -> None:
        """Ask whether to end the process under the cursor, if it is one's own."""
        row = self.view.row
        process = row.process if row is not None else None
        if not self._ends:
            self.say("read-only: nothing is ended from here")
        elif process is None:
            self.say("choose a process first")
        elif not process.visible:
            self.say(f"process {process.pid} cannot be seen from here, so it cannot be ended from here")
        elif not process.mine:
            self.say(f"process {process.pid} is {process.user or 'somebody else'}'s: only your own can be ended")
        elif process.own or process.pid == 1:
            self.say(
                "that is this traintop itself" if process.own else "process 1 is the machine's first: it is not ended"
            )
        else:
            self._ask(process, force=False)

    def _ask(self, process: CardProcess, *, force: bool) -> None:
        from tui.screens.card_details import EndScreen

        def answered(answer: str | None) -> None:
            if answer == "end":
                self._end(process, force=force)

        self.app.push_screen(EndScreen(process, force=force), answered)

    def _end(self, process: CardProcess, *, force: bool) -> None:
        from engine.session.cards import end

        problem = end(process, force=force)
        self.say(problem or f"process {process.pid} was {'killed' if force else 'asked to end'}")
        if problem is None:
            self._look(process, force, END_S)

    def _look(self, process: CardProcess, force: bool, left_s: float) -> None:
        """Look whether the process has ended; when its time is over, ask what now."""
        from engine.session.cards import is_there

        if not is_there(process):
            self.say(f"process {process.pid} has ended")
        elif left_s > 0:
            self.set_timer(_LOOK_S, lambda: self._look(process, force, left_s - _LOOK_S))
        elif force:
            self.say(f"process {process.pid} is still there: it waits for the driver or a disk")
        elif self.app.screen is self:
            self._ask(process, force=True)
        else:
            self.say(f"process {process.pid} has not ended: k asks again")
