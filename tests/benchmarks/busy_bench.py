"""Threads: those that are free (what a run takes by itself) against PyTorch's own number, turn by turn.

Beside as many endless loops as there are cores, and beside none. A process for each run, for a run's threads are chosen
as it starts; `OMP_NUM_THREADS` gives the other side PyTorch's number. On a quiet machine both are the same, and the
ratio is the measurement's own noise.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from engine.process.machine import Machine
from tests.benchmarks.figures import Figure, alternate, ratio

MODELS = (("bert-tiny", 1), ("bert-tiny", 8), ("bert-mini", 8))
GOAL_BUSY, GOAL_QUIET = 1.0, 0.98


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Ratios of steady samples/s, free threads ÷ PyTorch's."""
    cores = Machine().threads()
    for loops, goal in ((cores, GOAL_BUSY), (0, GOAL_QUIET)):
        for model, batch_size in MODELS if full else MODELS[:1]:
            beside = f"beside {loops} loops" if loops else "quiet"
            samples = batch_size * 40
            with tempfile.TemporaryDirectory() as folder, busy(loops):
                ours, theirs = alternate(
                    lambda: run(folder, model, batch_size, samples, None),  # noqa: B023
                    lambda: run(folder, model, batch_size, samples, cores),  # noqa: B023
                    rounds or (5 if full else 3),
                )
            name = f"free threads ÷ {cores}, {model} batch {batch_size} × 128, {beside}"
            pairs = list(zip(ours, theirs, strict=True))
            rates = ", ".join(f"{a.samples_per_s:.3g}/{b.samples_per_s:.3g}" for a, b in pairs)
            taken = max(measured.host_busy for pair in pairs for measured in pair)
            note = f"samples/s {rates}; others took up to {100 * taken:.0f} % of the cores"
            yield ratio(name, [a.samples_per_s for a, _ in pairs], [b.samples_per_s for _, b in pairs], goal, note=note)


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Programs that never rest, for so long."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


@dataclass(frozen=True)
class Measured:
    """Of one run: its steady speed, and what other programs took of the cores (0 to 1): whether it was quiet."""

    samples_per_s: float
    host_busy: float


def run(home: str, model: str, batch_size: int, samples: int, threads: int | None) -> Measured:
    """`traintop run` with so many threads, or with those that it chooses."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    environment["TRAINTOP_HOME"] = home
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [
        sys.executable,
        "-m",
        "tui.cli",
        "run",
        "--json",
        "--device",
        "cpu",
        "--model",
        model,
        "--seq-len",
        "128",
    ]
    command += ["--batch-size", str(batch_size), "--samples", str(samples)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    return Measured(float(last["steady_samples_per_s"]), float(last["host_busy"] or 0.0))
