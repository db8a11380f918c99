"""What the app costs the training under it, and how fast it answers. In real pseudo-terminals of 120×40.

While a training is timed nothing emulates the terminal: its bytes are only counted. Where a figure needs to know what
the screen shows, each chunk is drawn after its time of arrival was taken.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.export.hand_over import flags_of
from engine.history.history import History
from tests.benchmarks.figures import Figure, alternate, ratio
from tests.end_to_end.programs import COMMAND, environment, traintop
from tests.end_to_end.states import STATES, app_in, leave_by_key, leave_by_signal
from tests.end_to_end.terminal import Chunk, Emulator, Terminal

CONFIG = RunConfig(device="cpu", model="bert-tiny", batch_size=8, seq_len=128, samples=400)
RUN_S = 15.0
"""About how long a run of the comparison with the headless one lasts."""
STARTS, PRESSES, WATCH_S = 10, 50, 30.0
BARE = """
from textual.app import App
from textual.widgets import Static

class Bare(App):
    BINDINGS = [("q", "quit", "quit")]

    def compose(self):
        yield Static("Next run")

Bare().run()
"""
"""The least that a Textual app can be, with the words that are waited for."""
PATIENCE_S = 300.0
COLUMNS, ROWS = 120, 40


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """First paint; samples/s with the app on; bytes, processor time and answers to keys, training and not."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        yield from first_paint(home, STARTS * (3 if full else 1))
        yield app_against_headless(home, rounds or (8 if full else 4))
        yield from while_idle(home)
        yield from while_training(home)
        yield over_a_slow_link(home)
        yield from quitting(3 if full else 1)


def quitting(times: int) -> Iterator[Figure]:
    """Seconds from the last key of quitting, or from a SIGTERM, to the end of the process."""
    for name, state in STATES.items():
        rounds = []
        for by_key in (True, False) * times:
            with tempfile.TemporaryDirectory() as folder, app_in(name, Path(folder)) as terminal:
                if by_key:
                    leave_by_key(terminal, state, "q")
                else:
                    leave_by_signal(terminal, signal.SIGTERM)
                asked = time.perf_counter()
                terminal.process.wait(PATIENCE_S)
                rounds.append(time.perf_counter() - asked)
                terminal.wait_exit(PATIENCE_S)
        value = statistics.median(rounds)
        yield Figure(name=f"to quit, {name}", value=value, unit="s", goal=1, at_most=True, rounds=rounds)


def first_paint(home: Path, rounds: int) -> Iterator[Figure]:
    """From the start of a new process to the bytes of its first content: ours ÷ those of a bare Textual app.

    By the clock, and by the processor time that the process had used by then, which a busy machine does not stretch.
    """
    bare = home / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    ours, theirs = alternate(
        lambda: _first_paint(_app(home, CONFIG)),
        lambda: _first_paint(_terminal(home, sys.executable, str(bare))),
        rounds,
    )
    for index, (name, goal) in enumerate((("first paint", 1.5), ("processor time to the first paint", None))):
        a, b = [start[index] for start in ours], [start[index] for start in theirs]
        note = f"{statistics.median(a):.2f} s against {statistics.median(b):.2f}, {rounds} starts each"
        yield ratio(f"{name} ÷ a bare Textual app's", a, b, goal, note, at_most=True)


def _first_paint(terminal: Terminal, content: bytes = b"Next run") -> tuple[float, float]:
    """Seconds by the clock and of the processor until `content` is there."""
    with terminal:
        at = terminal.wait_for_bytes(content, PATIENCE_S)
        used = _processor_s(terminal)
        terminal.press("q")
        terminal.wait_exit(PATIENCE_S)
    return at - terminal.started, used


def _processor_s(terminal: Terminal) -> float:
    """Seconds that the process's threads have been on a processor: the first field of their schedstat, in ns."""
    tasks = Path(f"/proc/{terminal.process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def app_against_headless(home: Path, rounds: int) -> Figure:
    """Steady samples/s of runs in the app ÷ those of `traintop run --json`."""
    pilot = _headless(home, CONFIG)
    n_updates = max(40, round(RUN_S * pilot / CONFIG.batch_size))
    config = CONFIG.with_values(samples=n_updates * CONFIG.batch_size)
    app, headless = alternate(lambda: _in_app(home, config), lambda: _headless(home, config), rounds)
    return ratio("app on ÷ headless, bert-tiny batch 8", app, headless, 0.98, f"{rounds} × {n_updates} updates")


def while_idle(home: Path) -> Iterator[Figure]:
    """Key to screen with a ready engine and no run."""
    with _app(home, CONFIG) as terminal:
        watch = Watch(terminal)
        watch.until(lambda emulator: bool(emulator.line_with("press r to run")))
        yield _latency(watch, "key to screen, p95, no run")


def over_a_slow_link(home: Path) -> Figure:
    """Bytes/s with `--slow-link`, in a run that is stopped in the end."""
    with _app(home, CONFIG.with_values(samples=1_000_000), "--slow-link") as terminal:
        watch = Watch(terminal)
        terminal.press("r")
        watch.until(lambda emulator: bool(re.search(r"update \d", emulator.line_with("traintop"))))
        rate, took = _bytes_per_s(terminal)
    name = f"the same with --slow-link, {COLUMNS}×{ROWS}"
    return Figure(name=name, value=rate / 1024, unit="KB/s", goal=1, at_most=True, note=f"over {took:.0f} s")


def _bytes_per_s(terminal: Terminal) -> tuple[float, float]:
    """The rate over `WATCH_S`, and how long that was."""
    began, n_chunks = time.perf_counter(), len(terminal.chunks)
    time.sleep(WATCH_S)
    took = time.perf_counter() - began
    return sum(len(chunk.data) for chunk in terminal.chunks[n_chunks:]) / took, took


def while_training(home: Path) -> Iterator[Figure]:
    """Bytes/s, the screen's share of a core, and key to screen, in a run that is stopped in the end."""
    with _app(home, CONFIG.with_values(samples=1_000_000)) as terminal:
        watch = Watch(terminal)
        terminal.press("r")
        watch.until(lambda emulator: bool(re.search(r"update \d\d", emulator.line_with("traintop"))))
        cpu = _thread_seconds(terminal)
        rate, took = _bytes_per_s(terminal)
        note = f"over {took:.0f} s"
        name = f"bytes to the terminal, {COLUMNS}×{ROWS}, training"
        yield Figure(name=name, value=rate / 1024, unit="KB/s", goal=4, at_most=True, note=note)
        share = (_thread_seconds(terminal) - cpu) / took * 100
        yield Figure(name="the screen's thread, training", value=share, unit="% of a core", note=note)
        watch.catch_up()
        yield _latency(watch, "key to screen, p95, training")


@dataclass
class Watch:
    """What the screen shows, and since when."""

    terminal: Terminal

    def __post_init__(self) -> None:
        self._emulator = Emulator(COLUMNS, ROWS)
        self._n_drawn = 0

    def until(self, shown: Callable[[Emulator], bool]) -> float:
        """Draw until something is shown; when the chunk that shows it was read."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for chunk in self._new():
                self._emulator.feed(chunk.data)
                self._n_drawn += 1
                if shown(self._emulator):
                    return chunk.at
            self.terminal.wait_for_more(self._n_drawn, deadline)

    def catch_up(self) -> None:
        """Draw what has come."""
        for chunk in self._new():
            self._emulator.feed(chunk.data)
            self._n_drawn += 1

    def _new(self) -> list[Chunk]:
        return self.terminal.chunks[self._n_drawn :]


def _latency(watch: Watch, name: str) -> Figure:
    """From the press of a knob's key to the bytes that show the new value."""
    pauses = random.Random(0)
    times = []
    for index in range(PRESSES):
        key, shown = ("b", _is_16) if index % 2 == 0 else ("B", _is_8)
        time.sleep(pauses.uniform(0.1, 0.6))  # presses fall anywhere between two repaints
        watch.catch_up()
        pressed = watch.terminal.press(key)
        times.append((watch.until(shown) - pressed) * 1000)
    value = statistics.quantiles(times, n=20, method="inclusive")[18]
    note = f"median {statistics.median(times):.0f} ms of {len(times)} presses"
    return Figure(name=name, value=value, unit="ms", goal=100, at_most=True, rounds=times, note=note)


def _is_16(emulator: Emulator) -> bool:
    return re.search(r"batch size .*\b16 ", emulator.line_with("batch size")[:29]) is not None


def _is_8(emulator: Emulator) -> bool:
    return re.search(r"batch size +8 ", emulator.line_with("batch size")[:29]) is not None


def _app(home: Path, config: RunConfig, *words: str) -> Terminal:
    command = [*COMMAND, *words, *flags_of(config).split()]
    return _terminal(home, *command)


def _terminal(home: Path, *command: str) -> Terminal:
    return Terminal(command, columns=COLUMNS, rows=ROWS, env=environment(home), emulate=False)


def _in_app(home: Path, config: RunConfig) -> float:
    record = ran_in_app(home, *COMMAND, *flags_of(config).split())
    assert record.steady_samples_per_s is not None
    return record.steady_samples_per_s


def ran_in_app(home: Path, *command: str) -> RunRecord:
    """The row of a run that was started by its key in the app, which is quit then."""
    with History(home / "history.sqlite3") as history, _terminal(home, *command) as terminal:
        n_before = history.n_runs()
        terminal.wait_for_bytes(b"Next run", PATIENCE_S)
        terminal.press("r")
        record = finished(history, n_before)
        terminal.press("q")
        terminal.wait_exit(PATIENCE_S)
    assert record.outcome is Outcome.COMPLETED, record.message
    return record


def finished(history: History, n_before: int) -> RunRecord:
    """The run after the first `n_before`, once it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if history.n_runs() > n_before:
            newest = history.runs(limit=1, newest_first=True)[0]
            if newest.outcome is not Outcome.RUNNING:
                return newest
        time.sleep(1)
    raise AssertionError(f"no run ended within {PATIENCE_S:g} s")


def _headless(home: Path, config: RunConfig) -> float:
    done = traintop("run", "--json", *flags_of(config).split(), env=environment(home), timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1])["steady_samples_per_s"])


def _thread_seconds(terminal: Terminal) -> float:
    """Processor time of the process's main thread, which is the screen's. See proc(5), stat: fields 14 and 15."""
    pid = terminal.process.pid
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))
