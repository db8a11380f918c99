"""Answers as rows of CSV or as lines of JSON. Standard library only."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Protocol, TextIO

from engine.predicting.classifier import Answer
from engine.workloads.sources.text_rows import Row

PREDICTED, PROBABILITY = "predicted", "probability"


class Writer(Protocol):
    """Writes what the model says of a row."""

    def write(self, row: Row, answer: Answer) -> None:
        """One row. Raises `OSError`."""


class CsvWriter:
    """The file's own columns, and behind them the label, its probability, and the probability of every label."""

    def __init__(self, out: TextIO, columns: Sequence[str], labels: Sequence[str], separator: str = ",") -> None:
        self._columns = list(columns)
        self._write = csv.writer(out, delimiter=separator, lineterminator="\n")
        self._write.writerow([*(columns or ("text",)), PREDICTED, PROBABILITY, *(f"p_{label}" for label in labels)])
        self._n_labels = len(labels)

    def write(self, row: Row, answer: Answer) -> None:
        """One row; empty cells where there was no text. Raises `OSError`."""
        shares = answer.probabilities or ("",) * self._n_labels
        values = [row.values.get(name) for name in self._columns] if self._columns else [row.text]
        self._write.writerow([*values, answer.label, answer.probability, *shares])


class JsonWriter:
    """The row as an object with `predicted`, `probability` and `probabilities`, by label; null where it had no text."""

    def __init__(self, out: TextIO, labels: Sequence[str]) -> None:
        self._out, self._labels = out, tuple(labels)

    def write(self, row: Row, answer: Answer) -> None:
        """One row. Raises `OSError`."""
        shares = None
        if answer.probabilities is not None:
            shares = dict(zip(self._labels, answer.probabilities, strict=True))
        said = {**row.values, PREDICTED: answer.label, PROBABILITY: answer.probability, "probabilities": shares}
        self._out.write(json.dumps(said, ensure_ascii=True, default=str) + "\n")
