"""Small runs of two ranks, and the run of one rank that they are to equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.knob import Value
from engine.contract.records import Outcome
from tests.engine.model_folders import model_folder
from tests.engine.techniques.parallel import cases
from tests.engine.techniques.parallel.cases import Told
from tests.engine.techniques.parallel.ranks import Ranks

TOLERANCE = 1e-5
WAYS = ("ddp", "zero1", "fsdp")


def configured(root: Path, family: str, **knobs: Value) -> RunConfig:
    """Two ranks, and a small random model of a family, on data of its kind, without dropout."""
    is_classifier = family == "bert"
    values: dict[str, Value] = {
        "model": model_folder(root, family),
        "workload": "reviews" if is_classifier else "text",
        "task": "classification" if is_classifier else "causal-lm",
        "seq_len": 16,
        "samples": 24,
        "eval_samples": 9,
        "batch_size": 2,
        "dropout": False,
        "learning_rate": 1e-3,
        "device": "virtual:tesla-p4",
        "gpus": 2,
    }
    return RunConfig.from_dict({**values, **knobs})


def one_of(config: RunConfig) -> RunConfig:
    """The run of one rank that has the batches of all."""
    return config.with_values(gpus=1, parallel="ddp", batch_size=config.batch_size * (config.gpus or 1))


def assert_alike(told: Told, alone: Told, tolerance: float = TOLERANCE) -> None:
    """A rank tells what one rank alone did, and ends with its weights."""
    assert told.outcome is Outcome.COMPLETED, told.message
    assert told.losses == pytest.approx(alone.losses, abs=tolerance)
    assert told.norms == pytest.approx(alone.norms, rel=1e-4)
    assert told.weights.keys() == alone.weights.keys()
    for name, weight in alone.weights.items():
        off = (told.weights[name] - weight).abs().max().item()
        assert off <= tolerance, f"{name} is off by {off}"
    for mine, whole in zip(told.evaluations, alone.evaluations, strict=True):
        assert mine.loss == pytest.approx(whole.loss, abs=tolerance)
        assert (mine.accuracy, mine.macro_f1, mine.confusion) == (whole.accuracy, whole.macro_f1, whole.confusion)
        assert mine.n_samples == whole.n_samples
    assert [update.n_samples for update in told.updates] == [update.n_samples for update in alone.updates]


def assert_equal(two: Ranks, config: RunConfig, ways: tuple[str, ...] = WAYS, tolerance: float = TOLERANCE) -> None:
    """Both ranks train as one rank alone does, in each way."""
    alone: Told = two.each(cases.train, one_of(config), only=0)[0]
    assert alone.outcome is Outcome.COMPLETED, alone.message
    assert alone.weights
    for way in ways:
        for told in two.each(cases.train, config.with_values(parallel=way)):
            assert_alike(told, alone, tolerance)
