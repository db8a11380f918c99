"""Record the session of `traintop --demo` from real runs: python tests/benchmarks/record_demo.py

Needs some minutes on an idle machine, and says where what it measured contradicts the story. What the runs cost is
measured here; the card is a virtual Tesla P4 whose VRAM is limited, so that a small model fills it.
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
from engine.history.history import History
from engine.history.series import pack
from engine.session.demo import FILE
from engine.session.session import Session
from tests.engine.session.demo_story import problems

TARGET = Path(__file__).parents[2] / "engine" / "session" / FILE
MOST_BYTES = 300_000

CARD = RunConfig(model="bert-mini", seq_len=128, samples=192, device="virtual:tesla-p4", vram_limit=841)
REVIEWS = RunConfig(
    model="bert-tiny",
    workload="reviews",
    padding="bucketed",
    seq_len=64,
    samples=1500,
    eval_samples=200,
    epochs=3,
    learning_rate=5e-4,
    lr_scheduler="constant",
    dropout=False,
    device="virtual:tesla-p4",
)
EIGHT = CARD.with_values(batch_size=8)

STORY: tuple[tuple[RunConfig, str], ...] = (
    (
        CARD.with_values(batch_size=1),
        "Batch 1: one sample a pass, on a P4 held to 841 MiB for a small model to fill. Watch samples/s, memory.",
    ),
    (CARD.with_values(batch_size=2), "Batch 2: more samples/s, for little more memory."),
    (CARD.with_values(batch_size=4), "Batch 4: faster again, and the card fills."),
    (EIGHT, "Batch 8: the fastest yet, and the card is nearly full. The other rows are compared with this one."),
    (CARD.with_values(batch_size=16), "Batch 16: one step too far. Out of memory is a row, not a crash."),
    (
        EIGHT.with_values(gradient_accumulation_steps=4),
        "Accumulation 4: an effective batch of 32 in about the memory of 8. A quarter of the updates: see the loss.",
    ),
    (
        EIGHT.with_values(gradient_checkpointing="on"),
        "Checkpointing: activations are computed again instead of kept. Less memory, more time, the same loss.",
    ),
    (
        CARD.with_values(batch_size=16, gradient_checkpointing="on"),
        "Checkpointing at batch 16: what was out of memory fits, in less than batch 8 took without.",
    ),
    (REVIEWS, "The whole P4 again, and text with labels to learn: an update for every 8 reviews. Watch the accuracy."),
    (
        REVIEWS.with_values(gradient_accumulation_steps=32),
        "The same reviews and epochs, accumulation 32: few updates, and it learns less.",
    ),
)
"""The lecture's tables 2, 3, 5 and 4, and what each run is to show; `problems` says how they must end."""
BASELINE = 4


def main() -> int:
    """Record until the story holds, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=TARGET, help=f"default: {TARGET.name} in the package")
    parser.add_argument(
        "--tries", type=int, default=3, help="sessions to record until one tells the story (default: 3)"
    )
    arguments = parser.parse_args()
    for _ in range(arguments.tries):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.sqlite3"
            with History(path) as history:
                _record(history)
                wrong = problems(history.runs()) if history.n_runs() == len(STORY) else ["a run was refused"]
            if not wrong:
                return _write(_packed(path), arguments.output)
        print(*wrong, "", sep="\n")
    return 1


def _write(recorded: bytes, target: Path) -> int:
    data = lzma.compress(recorded, preset=9 | lzma.PRESET_EXTREME)
    if len(data) > MOST_BYTES:
        print(f"{len(data):,} bytes are more than {MOST_BYTES:,}")
        return 1
    target.write_bytes(data)
    print(f"{target.name}: {len(data):,} bytes")
    return 0


def _record(history: History) -> None:
    session = Session(history)
    session.open()
    try:
        for number, (config, caption) in enumerate(STORY, 1):
            if not _one(session, config):
                return
            history.note(number, caption)
        history.set_baseline(BASELINE)
    finally:
        session.close()


def _one(session: Session, config: RunConfig) -> bool:
    session.start(config)
    while True:
        for event in session.wait(1.0):
            if isinstance(event, RunRefused):
                print(f"refused: {event.message}")
                return False
            if isinstance(event, RunFinished):
                record = event.record
                rate = f"{record.samples_per_s:.2f} samples/s" if record.samples_per_s else "-"
                took = f"{record.train_runtime_s:.1f} s" if record.train_runtime_s else "-"
                print(f"run {record.run_id}: {record.outcome.value}, {took}, {rate}, accuracy {record.eval_accuracy}")
                return True


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
