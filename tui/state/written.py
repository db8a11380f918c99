"""An answer as it is written: its accepted guesses marked, and no longer than a screen needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.contract.events import RequestDone
from tui.drawing.cells import Line
from tui.drawing.flow import Flow
from tui.drawing.text import clean

KEPT = 20_000
"""Characters of an answer that are kept: its end."""
PROMPT = 300
"""Cells of a prompt that are shown."""
OPEN, CLOSE = "‹", "›"
"""Around accepted guesses where there are no colours."""


@dataclass(slots=True)
class Written:
    """The answer to one request."""

    request: int
    """Counted from 1; 0 and below warm up."""
    prompt: str = ""
    end: RequestDone | None = None
    """None while it is written."""
    parts: list[tuple[str, bool]] = field(default_factory=list)
    """Texts in their order, and whether they are guesses that were accepted."""
    _n: int = 0
    _flow: Flow | None = None
    _marks: bool = False

    def __post_init__(self) -> None:
        self.prompt = clean(self.prompt, PROMPT)

    def add(self, text: str, guessed: Sequence[tuple[int, int]]) -> None:
        """Go on with `text`, of which the ranges `guessed` are guesses that were accepted."""
        at = 0
        for start, stop in guessed:
            self._add(text[at:start], False)
            self._add(text[start:stop], True)
            at = max(at, stop)
        self._add(text[at:], False)
        while self._n > KEPT and len(self.parts) > 1:
            self._n -= len(self.parts.pop(0)[0])

    def _add(self, text: str, is_guess: bool) -> None:
        text = text[-KEPT:]
        if not text:
            return
        self._n += len(text)
        self.parts.append((text, is_guess))
        if self._flow is not None:
            self._to(self._flow, text, is_guess)

    def ended(self, event: RequestDone) -> None:
        """Take its end; what was not seen as it was written, the end tells."""
        self.end = event
        self.prompt = self.prompt or clean(event.prompt, PROMPT)
        if not self.parts:
            self.add(event.text, ())

    def lines(self, width: int, height: int, *, marks: bool = False) -> list[Line]:
        """Its last lines, at most `height` of `width` columns: "text", and "guessed" for guesses that were accepted,
        with `marks` between ‹ and › too."""
        if self._flow is None or (self._flow.width, self._marks) != (width, marks):
            self._flow, self._marks = Flow(width), marks
            for text, is_guess in self.parts:
                self._to(self._flow, text, is_guess)
        return self._flow.end(height)

    def _to(self, flow: Flow, text: str, is_guess: bool) -> None:
        flow.add(f"{OPEN}{text}{CLOSE}" if is_guess and self._marks else text, "guessed" if is_guess else "text")
