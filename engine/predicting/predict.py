"""From a file of texts to what a classifier says of each, a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice

from engine.predicting.classifier import Classifier, trained_column
from engine.predicting.written import Writer
from engine.workloads.sources.text_rows import Row, open_rows

_BATCHES = 32
"""That are held at once: among them texts of similar length are computed together."""


def open_texts(data: str, column: str | None, model: str) -> AbstractContextManager[tuple[Iterator[Row], list[str]]]:
    """The rows of a file, and the names of its columns. Without a `column` that one holds the texts that did when the
    model was trained, else it is found by its name. Raises `ConfigError` as `open_rows` does.
    """
    return open_rows(data, column, trained_column(model))


def predict(
    classifier: Classifier,
    rows: Iterator[Row],
    writer: Writer,
    batch_size: int,
    go_on: Callable[[int], bool] = lambda done: True,
) -> int:
    """Write an answer for every row; how many there were. `go_on` is told how many are done, and may end it.

    Raises what reading, computing and writing raise.
    """
    done = 0
    while part := list(islice(rows, batch_size * _BATCHES)):
        for row, answer in zip(part, classifier.answer([row.text for row in part], batch_size), strict=True):
            writer.write(row, answer)
        done += len(part)
        if not go_on(done):
            break
    return done
