"""What `traintop top` costs: eight cards, whose figures change with every reading, in a real pseudo-terminal.

The cards are the tests' stand-in for the driver's library, so the driver's own time is not in it.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.app_bench import BARE, PATIENCE_S, _first_paint, _processor_s, _terminal
from tests.benchmarks.figures import Figure, alternate, ratio
from tests.end_to_end.programs import COMMAND, environment
from tests.end_to_end.terminal import Terminal
from tests.engine.telemetry.nvml_machine import Machine, build, why_no_library

CARDS, WATCH_S, SETTLE_S, STARTS = 8, 60.0, 5.0, 10


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """First paint against a bare Textual app's; processor time and bytes over a minute."""
    if why_no_library():
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seen = Machine(build(home), home / "cards.txt")
        others = [subprocess.Popen(["sleep", "3600"]) for _ in range(4)]
        try:
            change(seen, random.Random(0), others)
            yield from first_paint(home, seen, (rounds or STARTS) * (3 if full else 1))
            yield from at_work(home, seen, others)
        finally:
            for process in others:
                process.kill()
                process.wait()


def change(seen: Machine, chance: random.Random, others: list[subprocess.Popen[bytes]]) -> None:
    """Give every busy card other figures, as a training does: two of eight idle, two processes on the first four."""
    seen.processes.clear()
    for index in range(CARDS):
        busy = index < CARDS - 2
        seen.card(
            index,
            gpu=chance.randint(85, 100) if busy else 0,
            memory=chance.randint(40, 70) if busy else 0,
            power=chance.randint(60_000, 74_000) if busy else 21_000,
            celsius=chance.randint(60, 63) if busy else 31,
            used=5_000 + (chance.randint(0, 1) if busy else 0),
            sm=chance.randint(1000, 1100) if busy else 345,
        )
        if index < len(others):
            seen.process(index, others[index].pid, used=4_500, sm=chance.randint(80, 99))
            seen.process(index, 4_000_000 + index, used=400, sm=chance.randint(0, 9))
    seen.write()


def _top(home: Path, seen: Machine) -> Terminal:
    env = {**environment(home), **seen.environment}
    return Terminal([*COMMAND, "top"], env=env, emulate=False)


def first_paint(home: Path, seen: Machine, rounds: int) -> Iterator[Figure]:
    """From the start of a new process to the bytes of its first content, ours ÷ those of a bare Textual app."""
    bare = home / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    ours, theirs = alternate(
        lambda: _first_paint(_top(home, seen), b"traintop top"),
        lambda: _first_paint(_terminal(home, sys.executable, str(bare))),
        rounds,
    )
    for index, (name, goal) in enumerate((("first paint of top", 1.5), ("processor time to it", None))):
        a, b = [start[index] for start in ours], [start[index] for start in theirs]
        note = f"{statistics.median(a):.2f} s against {statistics.median(b):.2f}, {rounds} starts each"
        yield ratio(f"{name} ÷ a bare Textual app's", a, b, goal, note, at_most=True)
    value = statistics.median(start[0] for start in ours)
    yield Figure(name="first paint of top", value=value, unit="s", goal=0.5, at_most=True)


def at_work(home: Path, seen: Machine, others: list[subprocess.Popen[bytes]]) -> Iterator[Figure]:
    """Processor time and bytes over a minute in which every figure changes twice a second."""
    done = threading.Event()
    chance = random.Random(1)

    def keep_changing() -> None:
        while not done.wait(0.5):
            change(seen, chance, others)

    with _top(home, seen) as terminal:
        changing = threading.Thread(target=keep_changing)
        changing.start()
        terminal.wait_for_bytes(f"{CARDS} cards".encode(), PATIENCE_S)
        time.sleep(SETTLE_S)
        began, used, n_chunks = time.perf_counter(), _processor_s(terminal), len(terminal.chunks)
        time.sleep(WATCH_S)
        took, used = time.perf_counter() - began, _processor_s(terminal) - used
        n_bytes = sum(len(chunk.data) for chunk in terminal.chunks[n_chunks:])
        done.set()
        changing.join()
        terminal.press("q")
        terminal.wait_exit(PATIENCE_S)
    note = f"{CARDS} cards, all figures change; over {took:.0f} s, load {os.getloadavg()[0]:.1f}"
    yield Figure(name="top's share of a core", value=used / took * 100, unit="%", goal=1, at_most=True, note=note)
    rate = n_bytes / took / 1024
    yield Figure(name="top's bytes to the terminal", value=rate, unit="KB/s", goal=2, at_most=True, note=note)
