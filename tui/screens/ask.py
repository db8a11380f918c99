"""Asking a model: what was asked and answered, and a line for the next question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from engine.contract.numbers import n_of, rate
from tui.drawing.cells import Line, wrap
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.screens.main import SHORT
from tui.screens.painted import as_text
from tui.state.answer_view import AnswerView
from tui.state.written import Written

_KEYS = "Enter asks   Esc closes; each answer is a run in the table of those that answer (J)"
_AROUND, _TIGHT = 12, 8
"""Rows of the dialog and around it that are not questions and answers."""
_SENTENCES = 4
_MOST = 50
"""Questions that are kept on the screen."""


@dataclass(slots=True)
class _Question:
    prompt: str
    answer: AnswerView | None = None
    is_over: bool = False
    problem: str = ""

    @property
    def written(self) -> Written | None:
        """The answer, once it is more than the warm-up."""
        if self.answer is None:
            return None
        return next((each for each in self.answer.answers if each.request >= 1), None)


class AskScreen(Dialog[None]):
    """Questions to one model, the newest at the bottom. `ask` starts a run, or says why it cannot."""

    TITLE = "The question"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "close")]

    def __init__(self, name: str, ask: Callable[[str], str | None]) -> None:
        super().__init__()
        self._name, self._ask = clean(name, 80), ask
        self._questions: list[_Question] = []
        self.run_id: int | None = None
        """The run that answers the last question."""

    @property
    def waits(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self._questions) and not self._questions[-1].is_over

    def compose(self) -> ComposeResult:
        """Whom one asks, what was said, and the line."""
        with Vertical(classes="dialog -wide"):
            yield Static(f"Ask {self._name}", classes="heading", markup=False)
            yield Static("", id="said", markup=False)
            field = Input(placeholder="a prompt")
            field.cursor_blink = False
            yield field
            yield Static(_KEYS, id="hint", classes="why last", markup=False)

    def on_mount(self) -> None:
        """A place for the answers."""
        self.show()

    def on_resize(self, event: events.Resize) -> None:
        """More room, or less."""
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, and leave the line to the next question."""
        text = event.value.strip()
        if not text:
            return
        hint = self.query_one("#hint", Static)
        problem = self._ask(text)
        hint.set_class(problem is not None, "refusal")
        hint.update(clean(problem, 400) if problem is not None else _KEYS)
        if problem is None:
            self._questions = [*self._questions, _Question(clean(text, 1000))][-_MOST:]
            event.input.clear()
            self.show()

    def follow(self, run_id: int, answer: AnswerView) -> None:
        """The run that answers has begun."""
        if self._questions:
            self.run_id, self._questions[-1].answer = run_id, answer
            self.show()

    def end(self, problem: str) -> None:
        """It is over; with a sentence where it was refused or failed."""
        if self._questions:
            last = self._questions[-1]
            last.is_over, last.problem = True, clean(problem, 400)
            self.show()

    def show(self) -> None:
        """Write down what came."""
        said = self.query_one("#said", Static)
        height = self.app.size.height
        room = max(2, height * 96 // 100 - (_TIGHT if height < SHORT else _AROUND))
        width = max(10, min(96, self.app.size.width * 96 // 100) - 8)
        lines: list[Line] = []
        for question in reversed(self._questions):
            lines = [*self._lines(question, width, room), *([[]] if lines else []), *lines]
            if len(lines) >= room:
                break
        said.styles.height = min(room, max(1, len(lines)))
        said.update(as_text(lines[-room:] or [[("The answer comes here, word by word.", "muted")]], self.app))

    def _lines(self, question: _Question, width: int, room: int) -> list[Line]:
        """A question, its answer, and what that took."""
        lines: list[Line] = [
            [(f"› {text}" if not at else f"  {text}", "accent")]
            for at, text in enumerate(wrap(question.prompt, width - 2, _SENTENCES))
        ]
        written = question.written
        if written is not None:
            lines += written.lines(width, max(1, room - len(lines) - 1), marks=self.app.no_color)
        if question.problem:
            return [*lines, *([(text, "bad")] for text in wrap(question.problem, width, _SENTENCES))]
        if written is None:
            warms = question.answer is not None and question.answer.started is not None
            return [*lines, [("warming up …" if warms else "loading …", "muted")]]
        end = written.end
        if end is None:
            return lines
        per_s = (end.new_tokens - 1) / (end.e2e_s - end.ttft_s) if end.e2e_s > end.ttft_s else None
        took = f"{n_of(end.new_tokens, 'token')}   first after {rate(end.ttft_s * 1000)} ms   {rate(per_s)} tokens/s"
        return [*lines, [(took, "muted")]]
