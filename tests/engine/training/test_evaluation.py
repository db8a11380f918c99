"""Evaluations every so many updates, their figures, the best of them, and the early end: as the Trainer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from engine.contract.config import RunConfig
from engine.contract.confusion import class_scores
from engine.contract.events import EvalDone
from engine.training.trainer import train
from engine.workloads.collate import Samples
from tests.engine.jobs import Recorded, make_job, tiny_data, tiny_model

CONFIG = RunConfig(
    workload="reviews",  # what is held out is given
    device="cpu",
    batch_size=4,
    samples=22,
    seq_len=16,
    epochs=3,
    learning_rate=3e-3,
    lr_scheduler="constant",
    dropout=False,
    seed=3,
)


def data_of(config: RunConfig) -> Any:
    return tiny_data(config.with_values(workload="dummy", early_stopping_patience=0))


def held_out(config: RunConfig) -> Samples:
    """Other samples, whose classes cannot be learned: training on makes their loss worse."""
    return data_of(config.with_values(seed=11, samples=13)).train


def trained(config: RunConfig, model: torch.nn.Module | None = None) -> Recorded:
    recorded = make_job(config, model or tiny_model(dropout=0.0), data=data_of(config), evaluation=held_out(config))
    assert train(recorded.job)
    return recorded


class _Evaluations(TrainerCallback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **more: Any) -> None:
        self.seen.append((state.global_step, dict(metrics)))


def _metrics(predicted: Any) -> dict[str, float]:
    answers, labels = predicted.predictions.argmax(-1), predicted.label_ids
    scores = []
    for label in np.union1d(answers, labels):
        right = ((answers == label) & (labels == label)).sum()
        scores.append(2 * right / ((answers == label).sum() + (labels == label).sum()))
    return {"accuracy": float((answers == labels).mean()), "macro-f1": float(np.mean(scores))}


def reference(config: RunConfig, folder: Path) -> tuple[Trainer, list[tuple[int, dict[str, float]]]]:
    """The Trainer's run of `config`, and its evaluations by update."""
    data, model, seen = data_of(config), tiny_model(dropout=0.0), _Evaluations()
    model.accepts_loss_kwargs = False
    steps = {"eval_strategy": "steps", "eval_steps": config.eval_steps} if config.eval_steps else {}
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        seed=config.seed,
        data_seed=config.seed,
        **{"eval_strategy": "epoch", **steps},
        metric_for_best_model=config.metric_for_best_model,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data.train,
        eval_dataset=held_out(config),
        data_collator=data.collate,
        compute_metrics=_metrics,
        callbacks=[seen],
    )
    if config.early_stopping_patience:
        patience, threshold = config.early_stopping_patience, config.early_stopping_threshold
        trainer.add_callback(EarlyStoppingCallback(patience, threshold))
    trainer.train()
    return trainer, seen.seen


@pytest.mark.parametrize("every", [None, 2, 4])  # of 18 updates, 6 an epoch
def test_evaluations_equal_the_trainers(every: int | None, tmp_path: Path) -> None:
    config = CONFIG.with_values(eval_steps=every)
    recorded = trained(config)
    trainer, theirs = reference(config, tmp_path)
    ours = recorded.evaluations
    assert [done.update for done in ours] == [update for update, _ in theirs] != []
    for done, (_, metrics) in zip(ours, theirs, strict=True):
        assert done.loss == pytest.approx(metrics["eval_loss"], abs=1e-5)
        assert done.accuracy == pytest.approx(metrics["eval_accuracy"])
        assert done.macro_f1 == pytest.approx(metrics["eval_macro-f1"])
        assert done.epoch == pytest.approx(metrics["epoch"])
    for mine, other in zip(recorded.job.model.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("metric", "patience", "threshold"),
    [("loss", 1, 0.0), ("loss", 3, 0.0), ("loss", 2, 0.02), ("accuracy", 2, 0.0), ("macro-f1", 3, 0.05)],
)
def test_it_ends_early_where_the_trainer_does(metric: str, patience: int, threshold: float, tmp_path: Path) -> None:
    config = CONFIG.with_values(
        epochs=6,
        eval_steps=2,
        metric_for_best_model=metric,
        early_stopping_patience=patience,
        early_stopping_threshold=threshold,
    )
    recorded = trained(config)
    trainer, theirs = reference(config, tmp_path)
    assert [done.update for done in recorded.evaluations] == [update for update, _ in theirs]
    assert recorded.job.update == trainer.state.global_step < 36
    best = recorded.job.best
    assert best.value == pytest.approx(trainer.state.best_metric, abs=1e-5)
    assert f"Stopped early: {patience} evaluation" in best.sentence()
    assert f"at update {best.evaluation.update}" in best.sentence()  # type: ignore[union-attr]


def test_evaluations_in_between_change_no_loss() -> None:
    """Nor does dropout: they draw no random numbers."""
    losses = []
    for every in (None, 1):
        config = CONFIG.with_values(dropout=True, eval_steps=every)
        torch.manual_seed(5)
        losses.append(trained(config, tiny_model(dropout=0.1)).losses)
    assert losses[0] == losses[1]


def test_the_job_says_after_every_evaluation_whether_it_is_the_best() -> None:
    config = CONFIG.with_values(eval_steps=1)
    recorded = make_job(config, tiny_model(dropout=0.0), data=data_of(config), evaluation=held_out(config))
    said: list[tuple[EvalDone, bool]] = []
    keep = recorded.job.emit
    recorded.job.emit = lambda event: (keep(event), said.append((event, recorded.job.best.is_new)))  # type: ignore
    assert train(recorded.job)
    best = np.inf
    for done, is_new in ((event, is_new) for event, is_new in said if isinstance(event, EvalDone)):
        assert is_new == (done.loss < best)
        best = min(best, done.loss)
    assert recorded.job.best.value == best


def test_the_confusion_counts_every_held_out_sample_once() -> None:
    recorded = trained(CONFIG.with_values(epochs=1))
    (done,) = recorded.evaluations
    assert done.confusion is not None
    classes = held_out(CONFIG).classes
    assert classes is not None
    assert [sum(row) for row in done.confusion] == np.bincount(classes).tolist()
    right = sum(row[index] for index, row in enumerate(done.confusion))
    assert done.accuracy == right / 13
    scores = [score.f1 for score in class_scores(done.confusion) if score.f1 is not None]
    assert done.macro_f1 == pytest.approx(sum(scores) / len(scores))
