"""`traintop predict`: what a trained classifier says of the texts in a file."""

from __future__ import annotations

import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from engine.contract import paths
from engine.contract.config import ConfigError
from engine.contract.numbers import duration, n_of, number, rate
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.headless import Interrupts, own_streams
from tui.drawing.text import clean

_ENDINGS = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None, ".json": None}
"""Of a file for the answers; what parts its columns, or None for JSON lines."""
log = logging.getLogger("traintop")

_TOLD_S = 5.0
MOST_AT_ONCE = 65_536


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop predict`."""
    parser.add_argument(
        "--model", metavar="DIR", help="folder of a text classifier, as --output-dir leaves it, or hub name"
    )
    parser.add_argument(
        "--data", metavar="FILE", help="CSV, TSV, JSON lines, Parquet, Excel or plain text (a line each)"
    )
    parser.add_argument(
        "--text-column", metavar="NAME", help="which column holds the text (default: by its usual names)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write to a .csv, .tsv or .jsonl file, replacing it (default: stdout)"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines in place of CSV")
    parser.add_argument("--batch-size", metavar="N", default="32", help="texts that are computed at once (default 32)")
    parser.add_argument(
        "--device", metavar="NAME", default="auto", help="cpu, cuda or cuda:N (default: cuda where it is)"
    )


def execute(arguments: Namespace) -> int:
    """`traintop predict`. Raises `UsageError` and `ConfigError`."""
    for flag in ("model", "data"):
        if not getattr(arguments, flag):
            raise UsageError(f"--{flag} is missing: traintop predict --model DIR --data FILE.")
    size = arguments.batch_size
    if not (size.isdecimal() and len(size) < 9 and 1 <= int(size) <= MOST_AT_ONCE):
        raise UsageError(f"--batch-size {size!r} is out of bounds: use 1 to {MOST_AT_ONCE:,}.")
    separator = _separator(arguments)
    data = Path(arguments.data).expanduser()
    if not data.exists():
        raise UsageError(f"--data {arguments.data!r} does not exist: check the path.")
    from engine.session.capture import log_to_file

    log_to_file(paths.log_file())
    with own_streams() as (out, err), Interrupts(err) as interrupts:
        return _predict(arguments, int(size), separator, out, err, interrupts)


def _separator(arguments: Namespace) -> str | None:
    """What parts the columns of the answers; None for JSON lines."""
    if arguments.out is None:
        return None if arguments.json else ","
    suffix = Path(arguments.out).suffix.lower()
    if suffix not in _ENDINGS:
        raise UsageError(f"--out {arguments.out!r} has no known ending: use .csv, .tsv or .jsonl.")
    if os.path.realpath(arguments.out) == os.path.realpath(arguments.data):
        raise UsageError("--out is the file of --data, which is read: give another file.")
    return None if arguments.json else _ENDINGS[suffix]


def _predict(
    arguments: Namespace, batch_size: int, separator: str | None, out: TextIO, err: TextIO, interrupts: Interrupts
) -> int:
    from engine.predicting.classifier import load
    from engine.predicting.faults import out_of_memory, sentence
    from engine.predicting.predict import open_texts, predict
    from engine.predicting.written import CsvWriter, JsonWriter, Writer

    def say(text: str) -> None:
        err.write(f"{clean(text)}\n")

    with open_texts(arguments.data, arguments.text_column, arguments.model) as (rows, columns):
        classifier = load(arguments.model, arguments.device)
        began = told = time.monotonic()

        def go_on(done: int) -> bool:
            nonlocal told
            if time.monotonic() - told > _TOLD_S:
                told = time.monotonic()
                say(f"{n_of(done, 'text')} …")
            return not interrupts.count

        with _written_to(arguments.out, out) as target:
            writer: Writer = JsonWriter(target, classifier.labels)
            if separator is not None:
                writer = CsvWriter(target, columns, classifier.labels, separator)
            try:
                done = predict(classifier, rows, writer, batch_size, go_on)
            except (ConfigError, OSError):
                raise
            except Exception as error:  # a model's own code may raise anything
                lacked = out_of_memory(error, classifier.device)
                log.error("prediction failed", exc_info=error)
                say(lacked or f"The prediction failed: {sentence(error)}")
                return exit_codes.OUT_OF_MEMORY if lacked else exit_codes.FAILED
        took = time.monotonic() - began
        say(f"{n_of(done, 'text')} in {duration(took)} s ({rate(done / took if took else None)} a second).")
        if classifier.n_cut:
            cut, length = number(classifier.n_cut), number(classifier.max_length)
            say(f"{cut} of them are longer than {length} tokens and were cut there.")
    return exit_codes.INTERRUPTED if interrupts.count else exit_codes.DONE


@contextmanager
def _written_to(name: str | None, out: TextIO) -> Iterator[TextIO]:
    if name is None:
        yield out
        return
    try:
        file = Path(name).expanduser().open("w", encoding="utf-8", newline="")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--out {name!r} cannot be written ({why}): give another file.") from None
    with file:
        yield file
