"""`python -m tests.benchmarks [names…]` measures what the design promises and prints one table.

Figures are ratios or medians; a shared machine moves single ones by more than most goals' distance, so look at the
spread, and run it again when the machine is quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.benchmarks.figures import Figure, line, save, table

BENCHMARKS = {
    "trainer": "our loop against transformers.Trainer",
    "busy": "threads that are free against PyTorch's own number, beside busy programs and on a quiet machine",
    "text": "real text: our bucketed run against the lecture's script and the Trainer at its best; bf16 against fp32",
    "answering": "our answers against plain generate; caches, batches, speculation and int8 against doing without",
    "scripts": "what looks on inside a user's own script: with it against without",
    "app": "the app's cost while training, first paint, key press to screen, bytes to the terminal",
    "ranks": "two ranks: how soon a run begins, and how soon all is over where one does not go on",
    "top": "traintop top with eight cards: first paint, share of a core, bytes to the terminal",
    "forecast": "the forecast against the lecture's table and public measurements, its seconds, a virtual GPU's cost",
    "rivals": "the lecture's memory as traintop and other estimators say it",
    "gpu": "the forecast against this machine's GPU; nothing where there is none",
    "history": "opening 10,000 runs of 1,000 updates",
    "plot": "painting 100,000 points",
}


def main() -> int:
    """Measure, print, and return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    about = "; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (default all). {about}")
    parser.add_argument("--full", action="store_true", help="more batch sizes and more rounds")
    parser.add_argument("--rounds", type=int, help="A B pairs per figure")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures, rounds and the machine's load")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"{sorted(unknown)[0]!r} is not known: use {', '.join(BENCHMARKS)}")
    os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here is about the network
    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        for figure in _measured(name, full=arguments.full, rounds=arguments.rounds):
            figures.append(figure)
            print(line(figure), file=sys.stderr, flush=True)
    print(table(figures))
    if arguments.json:
        save(figures, arguments.json)
    return 1 if any(figure.met is False for figure in figures) else 0


def _measured(name: str, *, full: bool, rounds: int | None) -> Iterator[Figure]:
    bench = import_module(f"tests.benchmarks.{name}_bench")
    with contextlib.redirect_stdout(sys.stderr):  # the Trainer prints its summary
        yield from bench.measure(full=full, rounds=rounds)


if __name__ == "__main__":
    sys.exit(main())
