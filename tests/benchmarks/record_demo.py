"""Record the session of `traintop --demo` from real runs: python tests/benchmarks/record_demo.py

Needs some minutes on an idle machine. What the runs cost is measured here; the card is a virtual Tesla P4 whose VRAM is
limited, so that a small model fills it.
"""

from __future__ import annotations

import argparse
import lzma
import sqlite3
import sys
import tempfile
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.events import Event, Logged, RunFinished, RunRefused
from engine.contract.records import Outcome
from engine.history.history import History
from engine.history.series import pack
from engine.session.demo import FILE
from engine.session.session import Session

TARGET = Path(__file__).parents[2] / "engine" / "session" / FILE
MOST_BYTES = 300_000

CARD = RunConfig(model="bert-mini", seq_len=128, samples=96, device="virtual:tesla-p4", vram_limit=815)
REVIEWS = RunConfig(
    model="bert-tiny",
    workload="reviews",
    seq_len=32,
    samples=192,
    eval_samples=100,
    epochs=2,
    learning_rate=2e-4,
    device="virtual:tesla-p4",
)

STORY: tuple[tuple[RunConfig, Outcome], ...] = (
    *((CARD.with_values(batch_size=size), Outcome.COMPLETED) for size in (1, 2, 4, 8)),
    (CARD.with_values(batch_size=16), Outcome.OUT_OF_MEMORY),
    (CARD.with_values(batch_size=8, gradient_accumulation_steps=4), Outcome.COMPLETED),
    (CARD.with_values(batch_size=8, gradient_checkpointing="on"), Outcome.COMPLETED),
    (CARD.with_values(batch_size=16, gradient_checkpointing="on"), Outcome.COMPLETED),
    (REVIEWS, Outcome.COMPLETED),
    (REVIEWS.with_values(gradient_accumulation_steps=16), Outcome.COMPLETED),
)
"""The lecture's tables 2, 3, 5 and 4, and how each run must end."""
BASELINE = 4


def main() -> int:
    """Record, check the story, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=TARGET, help=f"default: {TARGET.name} in the package")
    target = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite3"
        with History(path) as history:
            if not _record(history):
                return 1
            history.set_baseline(BASELINE)
        data = lzma.compress(_packed(path), preset=9 | lzma.PRESET_EXTREME)
    if len(data) > MOST_BYTES:
        print(f"{len(data):,} bytes are more than {MOST_BYTES:,}")
        return 1
    target.write_bytes(data)
    print(f"{target.name}: {len(data):,} bytes")
    return 0


def _record(history: History) -> bool:
    session = Session(history)
    session.open()
    try:
        return all(_one(session, config, wanted) for config, wanted in STORY)
    finally:
        session.close()


def _one(session: Session, config: RunConfig, wanted: Outcome) -> bool:
    session.start(config)
    while True:
        for event in session.wait(1.0):
            if isinstance(event, RunRefused):
                print(f"refused: {event.message}")
                return False
            if isinstance(event, RunFinished):
                record = event.record
                rate = f"{record.samples_per_s:.2f} samples/s" if record.samples_per_s else "-"
                print(f"run {record.run_id}: {record.outcome.value}, {rate}, accuracy {record.eval_accuracy}")
                return record.outcome is wanted


def _packed(path: Path) -> bytes:
    """The history as one file: nothing about this host, one batch a run, not compressed, for xz sees more at once."""
    with History(path) as history:
        series = {run.run_id: [event for _, event in history.series(run.run_id)] for run in history.runs()}
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE runs SET host = 'demo', machine = 'demo', pid = 0, process_started = 0, heartbeat = 0")
    connection.execute("DELETE FROM batches")
    for run_id, events in series.items():
        kept = [event for event in events if _is_telling(event)]
        row = (run_id, len(kept), len(kept), pack(kept, level=0))
        connection.execute("INSERT INTO batches (run_id, last_seq, n_events, payload) VALUES (?, ?, ?, ?)", row)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("VACUUM")
    connection.close()
    return path.read_bytes()


def _is_telling(event: Event) -> bool:
    """What libraries print names paths of this machine."""
    return not (isinstance(event, Logged) and event.source != "engine")


if __name__ == "__main__":
    sys.exit(main())
