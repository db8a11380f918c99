"""What the history costs: `python tests/benchmarks/history_bench.py` makes 10,000 runs of 1,000 updates and reads them.

Prints one JSON object. A few runs are written as a training writes them (a flush for every 4 updates and one
sample) and measured; the others are copies of their rows, so that size and layout are real. Opening is measured in
new processes, with the file in the page cache and with it dropped from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.contract.config import RunConfig  # noqa: E402
from engine.contract.events import Event, Sampled, UpdateDone  # noqa: E402
from engine.contract.records import DeviceInfo, GpuSample, HostSample, Memory, Outcome, RunRecord, Shares  # noqa: E402
from engine.history.history import History  # noqa: E402
from tests.benchmarks.figures import Figure  # noqa: E402

MIB = 2**20
DEVICE = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * MIB)
UPDATES_PER_FLUSH = 4

OPEN = """
import json, sys, time
t0 = time.perf_counter()
from engine.history.history import History  # noqa: E402
t1 = time.perf_counter()
history = History(__import__("pathlib").Path(sys.argv[1]))
t2 = time.perf_counter()
newest = history.runs(limit=200, newest_first=True)
t3 = time.perf_counter()
history.mark_interrupted()
t4 = time.perf_counter()
runs = history.runs()
t5 = time.perf_counter()
page = history.runs(limit=200, newest_first=True, before_id=len(runs) // 2)
t6 = time.perf_counter()
series = list(history.series(newest[0].run_id))
t7 = time.perf_counter()
assert len(page) == 200 or len(runs) < 400
print(json.dumps({"import_s": t1 - t0, "open_s": t3 - t1, "open_and_mark_s": t4 - t1, "runs_s": t5 - t4,
                  "page_s": t6 - t5, "series_s": t7 - t6, "n_runs": len(runs), "n_events": len(series)}))
"""


def update(run_id: int, number: int, rng: random.Random) -> UpdateDone:
    """An update as on a GPU: random floats where a training has them, memory readings that hardly change."""
    shares = Shares(data=rng.random() / 100, forward=rng.random(), backward=rng.random(), optimizer=rng.random() / 50)
    memory = Memory(
        used=7099 * MIB,
        reserved=6568 * MIB,
        allocated=6365 * MIB + 512 * rng.randrange(20),
        peak_used=7099 * MIB,
        peak_reserved=6568 * MIB,
        peak_allocated=6400 * MIB,
        total=7611 * MIB,
    )
    return UpdateDone(
        run_id=run_id,
        update=number,
        epoch=number / 1000,
        loss=rng.gauss(0.7, 0.1),
        learning_rate=5e-5 * (1 - number / 1000),
        grad_norm=rng.gauss(2, 0.5),
        loss_scale=None,
        skipped=False,
        n_samples=8,
        n_tokens=4096,
        update_s=rng.random(),
        warmup=number <= 3,
        t=number * 0.35 + rng.random() / 100,
        shares=shares,
        memory=memory,
    )


def sampled(run_id: int, rng: random.Random) -> Sampled:
    """A reading of the sampler."""
    gpu = GpuSample(name=DEVICE.name, utilization=97.0, memory_used=7099 * MIB, power=rng.gauss(72, 1), temperature=61)
    host = HostSample(cpu=rng.uniform(0, 100), process_cpu=99.0, memory_used=rng.randrange(2**35), process_memory=2**31)
    return Sampled(run_id=run_id, t=rng.random(), gpu=gpu, host=host, memory=Memory(used=7099 * MIB))


def write_runs(path: Path, n_runs: int, n_updates: int) -> dict[str, float]:
    """Write runs through the real interface; the cost per update in microseconds."""
    rng = random.Random(0)
    append_s = flush_s = finish_s = 0.0
    with History(path) as history:
        for index in range(n_runs):
            config = RunConfig(batch_size=2 ** (index % 8), seed=index)
            run_id = history.writer.begin_run(config, DEVICE, time.time(), n_updates)
            for first in range(1, n_updates + 1, UPDATES_PER_FLUSH):
                numbers = range(first, min(first + UPDATES_PER_FLUSH, n_updates + 1))
                events: list[Event] = [*(update(run_id, number, rng) for number in numbers), sampled(run_id, rng)]
                t0 = time.perf_counter()
                for event in events:
                    history.writer.append(event)
                t1 = time.perf_counter()
                sentence = history.writer.flush()
                append_s, flush_s = append_s + t1 - t0, flush_s + time.perf_counter() - t1
                assert sentence is None, sentence
            t0 = time.perf_counter()
            history.writer.finish_run(
                RunRecord(
                    run_id=run_id,
                    config=config,
                    outcome=Outcome.COMPLETED,
                    device=DEVICE,
                    updates=n_updates,
                    train_loss=0.5,
                )
            )
            finish_s += time.perf_counter() - t0
        journal = history.journal_mode
    n = n_runs * n_updates
    print(f"journal: {journal}", file=sys.stderr)
    return {
        "append_us_per_update": append_s / n * 1e6,
        "flush_us_per_update": flush_s / n * 1e6,
        "finish_ms_per_run": finish_s / n_runs * 1e3,
    }


def multiply(path: Path, n_real: int, n_runs: int) -> None:
    """Copy the rows of the first runs until there are `n_runs`."""
    connection = sqlite3.connect(path)
    names = [row[1] for row in connection.execute("PRAGMA table_info(runs)") if row[1] != "run_id"]
    with connection:
        for run_id in range(n_real + 1, n_runs + 1):
            source = (run_id - 1) % n_real + 1
            columns = ", ".join(names)
            connection.execute(f"INSERT INTO runs SELECT ?, {columns} FROM runs WHERE run_id = ?", (run_id, source))
            copy = "INSERT INTO batches SELECT ?, last_seq, n_events, payload FROM batches WHERE run_id = ?"
            connection.execute(copy, (run_id, source))
            seed = "UPDATE runs SET config = json_set(config, '$.seed', run_id) WHERE run_id = ?"
            connection.execute(seed, (run_id,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def open_times(path: Path, n_times: int, *, cold: bool) -> dict[str, float]:
    """Medians over new processes."""
    results = []
    for _ in range(n_times):
        if cold:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        command = [sys.executable, "-c", OPEN, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout))
    prefix = "cold_" if cold else ""
    return {f"{prefix}{name}": statistics.median(result[name] for result in results) for name in results[0]}


def _costs(n_runs: int, n_updates: int, n_real: int, *, cold: bool) -> dict[str, float]:
    """Make a history and open it in new processes."""
    n_real = min(n_real, n_runs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite3"
        costs = write_runs(path, n_real, n_updates)
        multiply(path, n_real, n_runs)
        size = path.stat().st_size
        figures = {
            "runs": n_runs,
            "updates_per_run": n_updates,
            "file_mib": size / MIB,
            "bytes_per_update": size / (n_runs * n_updates),
            **costs,
            **open_times(path, 5, cold=False),
        }
        if cold and hasattr(os, "posix_fadvise"):
            figures |= open_times(path, 3, cold=True)
    return figures


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Opening, and what keeping an update costs the process. `full` also opens it from the disk."""
    costs = _costs(10_000, 1_000, 10, cold=full)
    names = {"open_s": "the page cache", "cold_open_s": "the disk"}
    for key, where in names.items():
        if key in costs:
            name, note = "history of 10,000 runs opens", f"from {where}; {costs['file_mib']:,.0f} MiB"
            yield Figure(name=name, value=costs[key], unit="s", goal=0.3, at_most=True, note=note, details=costs)
    kept = costs["append_us_per_update"] + costs["flush_us_per_update"]
    yield Figure(name="history: keeping an update", value=kept, unit="µs", note="of the engine's processor time")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=1_000)
    parser.add_argument("--real-runs", type=int, default=10, help="runs that are written through the interface")
    arguments = parser.parse_args()
    figures = _costs(arguments.runs, arguments.updates, arguments.real_runs, cold=True)
    print(json.dumps({name: round(value, 6) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
