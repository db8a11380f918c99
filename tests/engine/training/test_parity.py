"""The loop equals the Hugging Face Trainer, and checkpointing changes nothing but memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from engine.contract.config import RunConfig
from engine.training.trainer import micro_step, train
from tests.engine.jobs import Recorded, make_job, tiny_data, tiny_model

CONFIG = RunConfig(
    device="cpu", batch_size=4, samples=22, seq_len=16, epochs=2, learning_rate=1e-3, dropout=False, seed=3
)


class _Losses(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])
            self.norms.append(logs["grad_norm"])
            self.rates.append(logs["learning_rate"])


def reference(config: RunConfig, model: torch.nn.Module, folder: Path, data: Any = None, **more: Any) -> _Losses:
    """Train `model` with transformers.Trainer in its default settings; `more` is for it."""
    data = data or tiny_data(config)
    # Without this attribute the Trainer (5.x) takes BERT's **kwargs for a promise to divide the loss by the items of
    # the window; BERT's head does not, and the window's gradients would be a sum. The mean is what it documents.
    model.accepts_loss_kwargs = False
    seen = _Losses()
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        activation_checkpointing=config.gradient_checkpointing == "on",
        activation_checkpointing_kwargs={"use_reentrant": False},
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        label_smoothing_factor=config.label_smoothing_factor,
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data.train, data_collator=data.collate, **more)
    trainer.add_callback(seen)
    trainer.train()
    return seen


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_equals_the_trainer(accumulation: int, checkpointing: str, tmp_path: Path) -> None:
    config = CONFIG.with_values(gradient_accumulation_steps=accumulation, gradient_checkpointing=checkpointing)
    ours, theirs = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    recorded = make_job(config, ours)

    assert train(recorded.job)
    seen = reference(config, theirs, tmp_path)

    assert len(seen.losses) == recorded.job.planned_updates == 2 * -(-6 // accumulation)
    assert_equal(recorded, ours, seen, theirs)


def assert_equal(recorded: Recorded, ours: torch.nn.Module, seen: _Losses, theirs: torch.nn.Module) -> None:
    torch.testing.assert_close(recorded.losses, seen.losses, rtol=0, atol=1e-5)
    assert [update.learning_rate for update in recorded.updates] == pytest.approx(seen.rates, abs=1e-12)
    norms = [update.grad_norm for update in recorded.updates]
    torch.testing.assert_close(norms, seen.norms, rtol=1e-4, atol=1e-5)
    for (name, mine), theirs_ in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs_, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


TUNED = CONFIG.with_values(weight_decay=0.3, warmup_steps=0.25, lr_scheduler="cosine")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_accumulation_steps": 4, "warmup_steps": 2.0},
        {"lr_scheduler": "linear", "optimizer_implementation": "foreach"},
        {"label_smoothing_factor": 0.2},
    ],
    ids=str,
)
def test_schedule_decay_and_smoothing_equal_the_trainers(changes: dict[str, Any], tmp_path: Path) -> None:
    config = TUNED.with_values(**changes)
    ours, theirs = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    recorded = make_job(config, ours)
    assert train(recorded.job)
    assert_equal(recorded, ours, reference(config, theirs, tmp_path), theirs)
    plain = tiny_model(dropout=0.0)
    train(make_job(config.with_values(weight_decay=0.0), plain).job)
    assert not torch.allclose(plain.classifier.weight, ours.classifier.weight, rtol=0, atol=1e-5)  # it does something


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_are_cross_entropys(smoothing: float, tmp_path: Path) -> None:
    """As one has them in the Trainer: by a loss function of one's own."""
    config = CONFIG.with_values(class_weights="balanced", label_smoothing_factor=smoothing)
    data = tiny_data(config)
    assert data.train.classes is not None
    data.train.classes[:] = np.arange(len(data.train)) % 5 == 0
    ours, theirs = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    recorded = make_job(config, ours, data=data)
    assert train(recorded.job)
    n, rare = len(data.train), int(data.train.classes.sum())
    weights = torch.tensor([n / (2 * (n - rare)), n / (2 * rare)])
    loss = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)
    function = lambda output, labels, num_items_in_batch=None: loss(output.logits, labels)  # noqa: E731
    seen = reference(config, theirs, tmp_path, compute_loss_func=function, data=data)
    assert_equal(recorded, ours, seen, theirs)
    assert "class_weights" not in ours.state_dict()


@pytest.mark.parametrize("checkpointing", ["on", "every-second"])
def test_checkpointing_is_bit_equal_with_dropout(checkpointing: str) -> None:
    plain = make_job(CONFIG, tiny_model(dropout=0.1, layers=4))
    checkpointed = make_job(CONFIG.with_values(gradient_checkpointing=checkpointing), tiny_model(dropout=0.1, layers=4))
    batch = next(iter(plain.job.loader))
    results = []
    for recorded in (plain, checkpointed):
        model = recorded.job.model.train()
        torch.manual_seed(11)
        loss = micro_step(model, copy.deepcopy(batch), recorded.job.precision, 1, lambda phase: None)
        results.append((loss, [parameter.grad for parameter in model.parameters()]))
    (loss, gradients), (checkpointed_loss, checkpointed_gradients) = results
    assert torch.equal(loss, checkpointed_loss)
    assert all(
        (mine is None) == (other is None) and (mine is None or torch.equal(mine, other))
        for mine, other in zip(gradients, checkpointed_gradients, strict=True)
    )


def test_checkpointing_computes_layers_again() -> None:
    """The proof that it is on: the layers' forwards run twice."""
    calls = {"off": 0, "on": 0, "every-second": 0}
    for setting in calls:
        model = tiny_model(layers=4)
        recorded = make_job(CONFIG.with_values(gradient_checkpointing=setting), model)

        def count(*_: Any, setting: str = setting) -> None:
            calls[setting] += 1

        for layer in model.bert.encoder.layer:
            layer.attention.self.query.register_forward_pre_hook(count)
        batch = next(iter(recorded.job.loader))
        micro_step(model.train(), batch, recorded.job.precision, 1, lambda phase: None)
    assert calls == {"off": 4, "on": 8, "every-second": 6}


@pytest.mark.parametrize("implementation", ["foreach", "loop"])
def test_optimizer_implementations_agree(implementation: str) -> None:
    fused, other = tiny_model(dropout=0.0), tiny_model(dropout=0.0)
    first = make_job(CONFIG, fused)
    second = make_job(CONFIG.with_values(optimizer_implementation=implementation), other)
    train(first.job)
    train(second.job)
    torch.testing.assert_close(first.losses, second.losses, rtol=0, atol=1e-5)


def test_accumulation_equals_the_large_batch() -> None:
    large = make_job(CONFIG.with_values(batch_size=8, samples=16), tiny_model(dropout=0.0))
    small = make_job(
        CONFIG.with_values(batch_size=2, gradient_accumulation_steps=4, samples=16), tiny_model(dropout=0.0)
    )
    train(large.job)
    train(small.job)
    torch.testing.assert_close(large.losses, small.losses, rtol=0, atol=1e-5)


def test_same_seed_same_figures() -> None:
    first, second = (make_job(CONFIG.with_values(dropout=True), tiny_model()) for _ in range(2))
    for recorded in (first, second):
        torch.manual_seed(CONFIG.seed)
        train(recorded.job)
    assert first.losses == second.losses


def test_stop_after_the_micro_step() -> None:
    recorded = make_job(CONFIG, tiny_model())
    recorded.job.should_stop = lambda: len(recorded.losses) == 3
    assert not train(recorded.job)
    assert recorded.job.micro_step == 3
