"""Real text: our bucketed run against the lecture's script and the Trainer's best, and bf16 against fp32.

Generated reviews, with the vocabulary and the tokens made beforehand for all alike. The lecture pads every text to 512
tokens; the Trainer at its best pads to the longest of a batch, with `train_sampling_strategy="group_by_length"`
too. All train a fresh model for the same epochs and score the held-out texts after each; the time is that of the
training with its scoring, and the accuracies stand in the note. Each side has a process of its own, see
`engine.process.openmp` on what two threads that train in one process take from each other.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from engine.contract.config import RunConfig
from engine.contract.records import RunRecord
from engine.history.history import History
from tests.benchmarks import trainer_bench
from tests.benchmarks.figures import Figure, alternate, ratio
from tests.benchmarks.session_runs import follow

LECTURE_GOAL, DYNAMIC_GOAL, GROUPED_GOAL, BF16_GOAL = 4.0, 1.5, 1.1, 1.2
ROUNDS, LECTURE_ROUNDS = 3, 1

T = TypeVar("T")


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Ratios of speed at the same number of epochs, and of updates with bf16 and fp32."""
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as our_process,
        ProcessPoolExecutor(1, spawn) as their_process,
    ):
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
        mine = partial(_result, our_process, ours, config, Path(folder))
        theirs = partial(_result, their_process, trainers)
        _result(our_process, ours, config.with_values(epochs=1), Path(folder))  # makes vocabulary and tokens
        padded = config.with_values(padding="max_length")
        dynamic = config.with_values(padding="longest")
        _result(their_process, trainers, dynamic.with_values(epochs=1), Path(folder))  # loads what is loaded once
        few, many = (rounds or LECTURE_ROUNDS, rounds or ROUNDS)
        lecture = partial(theirs, padded, Path(folder))
        yield _compare("the lecture's script (512)", config, mine, lecture, few, LECTURE_GOAL)
        best = partial(theirs, dynamic, Path(folder))
        yield _compare("Trainer, dynamic padding", config, mine, best, many, DYNAMIC_GOAL)
        grouped = partial(theirs, dynamic, Path(folder), strategy="group_by_length")
        yield _compare("Trainer, group_by_length", config, mine, grouped, many, GROUPED_GOAL)
        yield _bf16(our_process, Path(folder), rounds or (7 if full else ROUNDS))


def _result(process: ProcessPoolExecutor, train: Callable[..., T], *arguments: Any, **options: Any) -> T:
    return process.submit(train, *arguments, **options).result()


@dataclass(frozen=True)
class Trained:
    """A training to its end."""

    seconds: float
    accuracy: float


def _compare(
    theirs: str,
    config: RunConfig,
    our_training: Callable[[], Trained],
    their_training: Callable[[], Trained],
    rounds: int,
    goal: float,
) -> Figure:
    mine, others = alternate(our_training, their_training, rounds)
    accuracies = " and ".join(f"{median(one.accuracy for one in results):.3f}" for results in (mine, others))
    note = f"accuracy {accuracies}; {config.samples:,} generated reviews × {config.epochs} epochs, {rounds} rounds"
    name = f"engine ÷ {theirs}, {config.model} batch {config.batch_size}"
    return ratio(name, [1 / one.seconds for one in mine], [1 / one.seconds for one in others], goal, note)


def ours(config: RunConfig, folder: Path) -> Trained:
    """A run of ours."""
    with History(folder / "history.sqlite3") as history:
        record = _run(config, history)
    assert record.train_runtime_s is not None
    assert record.eval_accuracy is not None
    return Trained(record.train_runtime_s, record.eval_accuracy)


def _run(config: RunConfig, history: History) -> RunRecord:
    gc.collect()
    return follow(config, history)


def trainers(config: RunConfig, folder: Path, *, strategy: str = "random") -> Trained:
    """A run of the Trainer's."""
    import torch
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


def _bf16(process: ProcessPoolExecutor, folder: Path, rounds: int) -> Figure:
    """Updates/s with bf16 ÷ with fp32; no goal where the CPU has no bf16 arithmetic."""
    fp32 = RunConfig(
        model="bert-small", batch_size=8, seq_len=128, samples=8 * (trainer_bench.WARMUP + 15), device="cpu"
    )
    bf16 = fp32.with_values(precision="bf16")
    mine, theirs = alternate(
        lambda: _result(process, trainer_bench.ours, bf16, folder),
        lambda: _result(process, trainer_bench.ours, fp32, folder),
        rounds,
    )
    has_it = _result(process, _has_bf16)
    note = f"{rounds} rounds" if has_it else "this CPU has no bf16 arithmetic: no goal"
    name = f"bf16 ÷ fp32, {fp32.model} batch {fp32.batch_size} × {fp32.seq_len}"
    goal = BF16_GOAL if has_it else None
    return ratio(name, [1 / one.wall_s for one in mine], [1 / one.wall_s for one in theirs], goal, note)


def _has_bf16() -> bool:
    import torch

    return torch.cpu._is_avx512_bf16_supported()
