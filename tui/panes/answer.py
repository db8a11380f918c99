"""The answer as it comes, with those before it: guesses that were accepted are in a colour of their own."""

from __future__ import annotations

from tui.drawing.cells import Line, cut, first_that_fits, join
from tui.panes.base import PlotPane
from tui.state.answer_view import AnswerView
from tui.state.run_view import RunView
from tui.state.state import State
from tui.state.written import Written

_LEAST = 3
"""Rows of the answer under way, before there is one for others."""


class AnswerPane(PlotPane):
    """The first request of each batch, the newest at the bottom."""

    TITLE = "Answer"

    def title(self, state: State) -> str:
        """Of a classifier they are no answers."""
        answer = state.answer
        return "Scored" if answer is not None and answer.scores else self.TITLE

    def headline(self, state: State, width: int) -> Line:
        """Which request of how many, and the colour of guesses."""
        run, answer = state.run, state.answer
        if run is None or answer is None or answer.started is None:
            return []
        where: Line = [("warm-up", "muted")] if answer.warmup and run.under_way else [(_which(answer), "value")]
        many = len(answer.current)
        of: Line = [(f"the first of {many} at once", "muted")] if many > 1 and run.under_way else []
        guesses: Line = [("accepted guesses", "guessed")] if run.config.speculate != "off" else []
        ways = [join([guesses, of, where], " · "), join([guesses, where], " · "), where]
        return first_that_fits(ways, width)

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The newest answer, and above it as many of those before as there is room for."""
        answer = state.answer
        if answer is None or not answer.answers:
            return [[(f" {_nothing(state)}", "muted")]]
        room = width - 2
        marks = self.app.no_color
        newest, *others = reversed(answer.answers)
        rows = newest.lines(room, max(1, height - bool(newest.prompt)), marks=marks)
        lines = _with_prompt(newest, rows, room)
        for each in others:
            left = height - len(lines)
            if left < _LEAST:
                break
            before = _with_prompt(each, each.lines(room, left - 2, marks=marks), room)
            lines = [*before, [], *lines]
        return [[(" ", "text"), *line] for line in lines]


def _which(answer: AnswerView) -> str:
    """`request 3/8`, of a classifier `batch 12`."""
    if answer.scores:
        return f"batch {answer.batches:,}"
    return f"request {answer.at:,}/{answer.n_requests:,}"


def _with_prompt(written: Written, rows: list[Line], width: int) -> list[Line]:
    """An answer below what was asked, where that is known."""
    return [[(cut(f"› {written.prompt}", width), "muted")], *rows] if written.prompt else rows


def _nothing(state: State) -> str:
    """Why there is no text."""
    run: RunView | None = state.run
    if run is None or run.answer is None:
        return "r answers the prompts; Q asks one"
    if not run.under_way:
        return "nothing was answered"
    return "nothing yet"
