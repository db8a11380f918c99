"""Milliseconds per frame of a run of 100,000 points (budget: 10 a repaint): `python -m tests.benchmarks.plot_bench`."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator

from tests.benchmarks.figures import Figure
from tui.drawing.bars import Part, stacked_bar
from tui.drawing.plot import Columns, Layer, plot
from tui.drawing.text import clean

POINTS = 100_000
SIZES = ((58, 12), (180, 20))


def report(what: str, work: Callable[[], object], repeats: int = 30) -> float:
    """Print the median and the worst of `repeats` calls, in ms; the median."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    median = sorted(times)[repeats // 2]
    print(f"{what:44} {median:8.2f} ms   worst {max(times):8.2f} ms", flush=True)
    return median


def noisy(seed: int) -> Columns:
    """A falling, noisy loss."""
    rng = random.Random(seed)
    return Columns((float(i), math.exp(-i / 30_000) + rng.random() * 0.4) for i in range(POINTS))


def bench_size(live: Columns, baseline: Columns, width: int, height: int) -> float:
    """Frames as a pane draws them: fixed axes, labels, a limit line. The slowest repaint's median, in ms."""

    def frame(*layers: Layer, x_max: float = 2.0 * POINTS) -> None:
        x_range, y_range, limit = (0.0, x_max), (0.0, 1.5), (1.4, 9)
        plot(layers, width, height, x_range=x_range, y_range=y_range, label_width=6, x_row=True, limit=limit)

    def appended() -> None:
        live.append(float(len(live)), 0.5)
        frame(Layer(live, 1))

    widths = iter(range(1000))
    name = f"{width}×{height}"
    report(
        f"{name} rebin {POINTS} points and paint", lambda: frame(Layer(live, 1), x_max=3.0 * POINTS + next(widths)), 5
    )
    frame(Layer(baseline, 2), Layer(live, 1))
    return max(
        report(f"{name} repaint, one series", lambda: frame(Layer(live, 1))),
        report(f"{name} repaint, with a baseline", lambda: frame(Layer(baseline, 2), Layer(live, 1))),
        report(f"{name} one point more, and repaint", appended),
    )


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """The slowest repaint at each size."""
    live, baseline = noisy(1), noisy(2)
    for width, height in SIZES:
        slowest = bench_size(live, baseline, width, height)
        name = f"repaint of {POINTS:,} points, {width}×{height}"
        yield Figure(name=name, value=slowest, unit="ms", goal=10, at_most=True)


def main() -> None:
    """Print one line per measurement."""
    live, baseline = noisy(1), noisy(2)
    for width, height in SIZES:
        bench_size(live, baseline, width, height)
    thousand = [(1e5, 0.5)] * 1000
    report("append 1,000 points without a repaint", lambda: live.extend(thousand))
    parts = [Part(400 + 37 * i, i + 1) for i in range(8)]
    report("stacked bar of 8 parts, 116 cells", lambda: stacked_bar(parts, 7611, 116))
    hostile = "\x1b]" * 5_000_000
    report("clean a 10 MB line", lambda: clean(hostile), 3)
    report("clean a 10 MB line to 80 cells", lambda: clean(hostile, 80), 3)


if __name__ == "__main__":
    main()
