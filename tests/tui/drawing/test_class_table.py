"""The table of classes: its figures, what a class was taken for, and names that cannot break it."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tui.drawing.class_table import class_table

COUNTS = ((50, 3, 1), (10, 0, 0), (0, 0, 0))


def test_every_class_has_its_figures_and_what_it_was_taken_for() -> None:
    heading, first, second, third = (line.split() for line in class_table(COUNTS, ("good", "bad", "none"), 100))
    assert heading == ["class", "precision", "recall", "F1", "held", "out", "taken", "for"]
    # good: 50 of 60 answers right, 50 of 54 found
    assert first == ["good", "0.833", "0.926", "0.877", "54", "bad", "3,", "none", "1"]
    assert second == ["bad", "0.000", "0.000", "0.000", "10", "good", "10"]
    assert third == ["none", "0.000", "–", "0.000", "0"]


@pytest.mark.parametrize("width", [40, 65, 100])
def test_it_keeps_its_width_whatever_the_classes_are_called(width: int) -> None:
    names = ("a very long name of a class that has many words", "日本語の長い名前のクラスです", "\x1b[31mred\n")
    lines = list(class_table(((5, 1, 7), (2, 9, 900), (3, 3, 3)), names, width))
    assert all(cell_len(line) <= max(width, 60) for line in lines)
    assert all(line.isprintable() for line in lines)
    assert len({cell_len(line[: line.index("0.")]) for line in lines[1:]}) == 1  # columns stand below each other
