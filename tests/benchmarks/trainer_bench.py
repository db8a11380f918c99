"""Our loop against `transformers.Trainer`: same model, same data, same maths, on this machine's CPU.

Ours is what `traintop run` trains with: a `Session` with its threads, its mailbox and its history on the disk. The
Trainer has its default settings, without checkpoints, progress bar and reports. Both train a fresh model on the same
samples, turn by turn, each in a process of its own, as a person would run it: neither inherits the other's threads and
heap. The time of an update is the wall time from the end of the last warm-up update to
the end of the last update, divided by the updates between them; the processor time of the process over the same updates
is kept as a note, because other work on the machine disturbs it less.
"""

from __future__ import annotations

import gc
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import RunFinished, RunRefused, UpdateDone
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session.session import Session
from tests.benchmarks.figures import Figure, alternate, ratio

MODELS = ("bert-tiny", "bert-mini")
BATCHES, ALL_BATCHES = (1, 8), (1, 4, 8, 16)
GOAL, GOAL_AT_BATCH_1 = 1.0, 1.05
WARMUP = 10
SECONDS = 3.0
"""About how long a measured part lasts: the number of updates follows from a first run."""


def measure(*, full: bool, rounds: int | None = None, models: tuple[str, ...] = MODELS) -> Iterator[Figure]:
    """Ratios of samples/s, ours ÷ the Trainer's."""
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as our_process,
        ProcessPoolExecutor(1, spawn) as their_process,
    ):
        for model in models:
            for batch_size in ALL_BATCHES if full else BATCHES:
                mine = partial(_result, our_process, ours, Path(folder))
                theirs = partial(_result, their_process, trainers, Path(folder))
                yield _compare(model, batch_size, rounds or (9 if full else 5), mine, theirs)


def _result(process: ProcessPoolExecutor, train: Training, folder: Path, config: RunConfig) -> Cost:
    return process.submit(train, config, folder).result()


def _compare(model: str, batch_size: int, rounds: int, ours_of: Measured, theirs_of: Measured) -> Figure:
    config = RunConfig(model=model, batch_size=batch_size, seq_len=128, device="cpu", samples=batch_size)
    pilot = config.with_values(samples=batch_size * (WARMUP + 20))
    ours_of(pilot)
    update_s = theirs_of(pilot).wall_s
    config = config.with_values(samples=batch_size * (WARMUP + max(20, min(1000, round(SECONDS / update_s)))))
    mine, theirs = alternate(lambda: ours_of(config), lambda: theirs_of(config), rounds)
    goal = GOAL_AT_BATCH_1 if batch_size == 1 else GOAL
    name = f"engine ÷ Trainer, {model} batch {batch_size} × 128"
    cpu = median(b.cpu_s / a.cpu_s for a, b in zip(mine, theirs, strict=True))
    note = f"by processor time {cpu:.3f}; {rounds} × {config.samples} samples"
    return ratio(name, [1 / one.wall_s for one in mine], [1 / one.wall_s for one in theirs], goal, note)


@dataclass(frozen=True)
class Cost:
    """Of one update: wall time, and processor time of all threads of the process."""

    wall_s: float
    cpu_s: float


Training = Callable[[RunConfig, Path], Cost]
Measured = Callable[[RunConfig], Cost]


class Laps:
    """The clock at the end of every update."""

    def __init__(self) -> None:
        self._walls: list[float] = []
        self._cpus: list[float] = []

    def lap(self, wall_s: float) -> None:
        """An update has ended."""
        self._walls.append(wall_s)
        self._cpus.append(time.process_time())

    def cost(self) -> Cost:
        """The mean over the updates after warm-up."""
        n = len(self._walls) - WARMUP
        return Cost((self._walls[-1] - self._walls[WARMUP - 1]) / n, (self._cpus[-1] - self._cpus[WARMUP - 1]) / n)


def ours(config: RunConfig, folder: Path) -> Cost:
    """A run of ours."""
    gc.collect()
    logging.getLogger("traintop").addHandler(logging.NullHandler())
    with History(folder / "history.sqlite3") as history:
        return _follow(Session(history), config)


def _follow(session: Session, config: RunConfig) -> Cost:
    session.open()
    session.start(config)
    laps = Laps()
    try:
        while True:
            for event in session.wait(1.0):
                if isinstance(event, UpdateDone):
                    laps.lap(event.t)
                elif isinstance(event, RunRefused):
                    raise RuntimeError(event.message)
                elif isinstance(event, RunFinished):
                    if event.record.outcome is not Outcome.COMPLETED:
                        raise RuntimeError(event.record.message)
                    return laps.cost()
    finally:
        session.close(30.0)


def trainers(config: RunConfig, folder: Path) -> Cost:
    """A run of the Trainer's."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from engine.training import models
    from engine.training.hub import Hub
    from engine.workloads.prepare import prepare

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            laps.lap(time.perf_counter())

    laps = Laps()
    gc.collect()
    torch.manual_seed(config.seed)
    source = models.resolve(config.model, Hub())
    text = source.config.get_text_config()
    data = prepare(config, model_vocab_size=text.vocab_size, pad_token_id=text.pad_token_id)
    model = models.build(source, models.shape(source, config, n_labels=2, vocab_size=None), config)
    model.accepts_loss_kwargs = False  # BERT's head takes the mean itself; with one micro-step it is the same number
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        seed=config.seed,
        data_seed=config.seed,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=data.train, data_collator=data.collate, callbacks=[Ends()]
    )
    trainer.train()
    return laps.cost()
