"""Real text: our bucketed run against the lecture's script and the Trainer's best, and bf16 against fp32.

Generated reviews, with the vocabulary and the tokens made beforehand for all alike. The
lecture's script pads every text to 512 tokens; the Trainer at its best pads to the longest of a batch, with
`train_sampling_strategy="group_by_length"` too. All train a fresh model for the same epochs and score the held-out
texts after each; the time is that of the training with its scoring, and the accuracies stand in the note.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from engine.contract.config import RunConfig
from engine.contract.events import RunFinished, RunRefused
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from engine.session.session import Session
from tests.benchmarks import trainer_bench
from tests.benchmarks.figures import Figure, alternate, ratio

LECTURE_GOAL, BEST_GOAL, BF16_GOAL = 4.0, 1.2, 1.2
ROUNDS, LECTURE_ROUNDS = 3, 1


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Ratios of speed at the same number of epochs, and of updates with bf16 and fp32."""
    with tempfile.TemporaryDirectory() as folder, History(Path(folder) / "history.sqlite3") as history:
        config = RunConfig(
            model="bert-mini" if full else "bert-tiny",
            workload="reviews",
            padding="bucketed",
            samples=3000 if full else 1500,
            eval_samples=500,
            epochs=3 if full else 2,
            learning_rate=5e-4,
            device="cpu",
        )
        _ours(config.with_values(epochs=1), history)  # makes vocabulary and tokens, and loads what is loaded once
        padded = config.with_values(padding="max_length")
        dynamic = config.with_values(padding="longest")
        few, many = (rounds or LECTURE_ROUNDS, rounds or ROUNDS)
        lecture = partial(_trainers, padded, Path(folder))
        yield _compare("the lecture's script (512)", config, history, lecture, few, LECTURE_GOAL)
        best = partial(_trainers, dynamic, Path(folder))
        yield _compare("Trainer, dynamic padding", config, history, best, many, BEST_GOAL)
        grouped = partial(_trainers, dynamic, Path(folder), strategy="group_by_length")
        yield _compare("Trainer, group_by_length", config, history, grouped, many, None)
        yield _bf16(Path(folder), rounds or (7 if full else ROUNDS))


@dataclass(frozen=True)
class Trained:
    """A training to its end."""

    seconds: float
    accuracy: float


def _compare(theirs: str, config: RunConfig, history: History, other: Any, rounds: int, goal: float | None) -> Figure:
    mine, others = alternate(lambda: _ours(config, history), other, rounds)
    accuracies = " and ".join(f"{median(one.accuracy for one in results):.3f}" for results in (mine, others))
    note = f"accuracy {accuracies}; {config.samples:,} generated reviews × {config.epochs} epochs, {rounds} rounds"
    name = f"engine ÷ {theirs}, {config.model} batch {config.batch_size}"
    return ratio(name, [1 / one.seconds for one in mine], [1 / one.seconds for one in others], goal, note)


def _ours(config: RunConfig, history: History) -> Trained:
    record = _run(config, history)
    assert record.train_runtime_s is not None
    assert record.eval_accuracy is not None
    return Trained(record.train_runtime_s, record.eval_accuracy)


def _run(config: RunConfig, history: History) -> RunRecord:
    gc.collect()
    session = Session(history)
    session.open()
    session.start(config)
    try:
        while True:
            for event in session.wait(1.0):
                if isinstance(event, RunRefused):
                    raise RuntimeError(event.message)
                if isinstance(event, RunFinished):
                    if event.record.outcome is not Outcome.COMPLETED:
                        raise RuntimeError(event.record.message)
                    return event.record
    finally:
        session.close(30.0)


def _trainers(config: RunConfig, folder: Path, *, strategy: str = "random") -> Trained:
    from transformers import EvalPrediction, Trainer, TrainingArguments

    from engine.training import models
    from engine.training.hub import Hub
    from engine.workloads.prepare import prepare

    def accuracy(scored: EvalPrediction) -> dict[str, float]:
        return {"accuracy": float((scored.predictions.argmax(-1) == scored.label_ids).mean())}

    gc.collect()
    source = models.resolve(config.model, Hub())
    text = source.config.get_text_config()
    data = prepare(config, tokenizer=source.tokenizer, model_vocab_size=text.vocab_size, pad_token_id=text.pad_token_id)
    torch.manual_seed(config.seed)
    shaped = models.shape(source, config, n_labels=data.n_labels, vocab_size=data.vocab_size)
    model = models.build(source, shaped, config)
    model.accepts_loss_kwargs = False  # as in trainer_bench
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        train_sampling_strategy=strategy,
        eval_strategy="epoch",
        seed=config.seed,
        data_seed=config.seed,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.evaluation,
        data_collator=data.collate,
        compute_metrics=accuracy,
    )
    seconds = trainer.train().metrics["train_runtime"]
    return Trained(
        seconds, next(row["eval_accuracy"] for row in reversed(trainer.state.log_history) if "eval_accuracy" in row)
    )


def _bf16(folder: Path, rounds: int) -> Figure:
    """Updates/s with bf16 ÷ with fp32; no goal where the CPU has no bf16 arithmetic."""
    fp32 = RunConfig(
        model="bert-small", batch_size=8, seq_len=128, samples=8 * (trainer_bench.WARMUP + 15), device="cpu"
    )
    bf16 = fp32.with_values(precision="bf16")
    mine, theirs = alternate(lambda: trainer_bench.ours(bf16, folder), lambda: trainer_bench.ours(fp32, folder), rounds)
    has_it = torch.cpu._is_avx512_bf16_supported()
    note = f"{rounds} rounds" if has_it else "this CPU has no bf16 arithmetic: no goal"
    name = f"bf16 ÷ fp32, {fp32.model} batch {fp32.batch_size} × {fp32.seq_len}"
    goal = BF16_GOAL if has_it else None
    return ratio(name, [1 / one.wall_s for one in mine], [1 / one.wall_s for one in theirs], goal, note)
