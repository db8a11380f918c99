"""Whole runs on real text: generated reviews, a language model on packed rows, and the presets made for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.contract import figures
from engine.contract.as_json import record_to_json
from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, RunProgress, RunRefused
from engine.contract.records import Outcome
from engine.training import models
from engine.training.hub import Hub
from tests.engine.session.test_session import Driver

SMALL = RunConfig(device="cpu", samples=32, eval_samples=16, batch_size=4, seq_len=32, learning_rate=1e-3)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    torch.set_num_threads(1)
    driver = Driver(tmp_path)
    driver.session.open()
    yield driver
    driver.session.close()
    driver.history.close()


@pytest.fixture
def hub() -> Hub:
    hub = Hub()
    hub.probe()
    return hub


def test_reviews_without_data_train_on_generated_ones_and_say_so(driver: Driver) -> None:
    record = driver.run(SMALL.with_values(workload="reviews", padding="bucketed")).record
    assert record.outcome is Outcome.COMPLETED
    assert record.eval_accuracy is not None
    said = [event.detail for event in driver.events if isinstance(event, RunProgress)]
    assert any("The text is generated" in line for line in said)


def test_a_run_that_ends_early_is_complete_and_says_so(driver: Driver) -> None:
    """And its row, its events and its JSON tell of the classes."""
    config = SMALL.with_values(workload="reviews", epochs=6, eval_steps=1, learning_rate=0.1)
    record = driver.run(config.with_values(early_stopping_patience=2, class_weights="balanced")).record
    assert record.outcome is Outcome.COMPLETED
    assert record.planned_updates is not None
    assert record.updates < record.planned_updates
    assert record.message is not None
    assert record.message.startswith("Stopped early: 2 evaluations without a better eval loss than")
    assert figures.STATUS.of(record).startswith("completed early")
    evaluated = [event for event in driver.events if isinstance(event, EvalDone)]
    assert [event.update for event in evaluated] == list(range(1, record.updates + 1))
    assert record.best_update == min(evaluated, key=lambda event: event.loss).update == record.updates - 2
    classes = record_to_json(record)["classes"]
    assert [row["name"] for row in classes] == [f"{n} star{'s' * (n > 1)}" for n in range(1, 6)]
    assert sum(row["support"] for row in classes) == record.n_eval
    assert driver.history.run(record.run_id) == record


@pytest.mark.parametrize("padding", ["longest", "packed"])
def test_a_language_model_trains_on_text(padding: str, driver: Driver) -> None:
    config = SMALL.with_values(task="causal-lm").with_values(workload="text", model="gpt2-tiny", padding=padding)
    first, second = driver.run(config).record, driver.run(config).record
    assert first.outcome is Outcome.COMPLETED
    assert first.eval_accuracy is None
    assert first.eval_loss == second.eval_loss
    evaluated = [event for event in driver.events if isinstance(event, EvalDone)]
    assert [event.accuracy for event in evaluated] == [None, None]


def test_bert_learns_as_a_decoder_but_cannot_pack(driver: Driver) -> None:
    config = SMALL.with_values(task="causal-lm").with_values(workload="text")
    assert driver.run(config).record.outcome is Outcome.COMPLETED
    driver.session.start(config.with_values(padding="packed"))
    refused = driver.until(RunRefused)
    assert isinstance(refused, RunRefused)
    assert (refused.knob, refused.run_id) == ("padding", 2)


@pytest.mark.parametrize(("name", "millions"), [("gpt2", 124.4), ("gpt2-tiny", 6.96)])
def test_decoders_have_their_published_sizes(name: str, millions: float, hub: Hub) -> None:
    source = models.resolve(name, hub)
    config = RunConfig(model=name, task="causal-lm")
    with torch.device("meta"):
        model = models.build(source, models.shape(source, config, n_labels=2, vocab_size=None), config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert source.location is None
