"""What became of every class, as a table of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from engine.contract.confusion import Confusion, class_scores
from engine.contract.numbers import fixed
from tui.drawing.cells import cut
from tui.drawing.text import clean

_NAME = 24
"""Cells of a class's name at most."""


def class_table(counts: Confusion, names: Sequence[str], width: int) -> Iterator[str]:
    """A heading and a line for every class, each in `width` cells: its figures, and what it was taken for."""
    said = [cut(clean(names[i], 80), _NAME) if i < len(names) else str(i) for i in range(len(counts))]
    first = max(map(cell_len, ("class", *said)))
    yield _line("class", first, ("precision", "recall", "F1", "held out"), "taken for", width)
    for score in class_scores(counts):
        figures = (*(fixed(value, 3) for value in (score.precision, score.recall, score.f1)), f"{score.support:,}")
        others = ", ".join(f"{said[other]} {n:,}" for other, n in score.taken_for)
        yield _line(said[score.index], first, figures, others, width)


def _line(name: str, first: int, figures: Sequence[str], others: str, width: int) -> str:
    start = name + " " * (first - cell_len(name))
    cells = (f"{text:>{wide}}" for text, wide in zip(figures, (9, 6, 5, 8), strict=True))
    text = f"{start}  {'  '.join(cells)}"
    room = width - cell_len(text) - 2
    return f"{text}  {cut(others, room)}" if others and room >= 8 else text
