"""The shape of data before the run: the one that the run has, read once, and never what was not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.tasks import TASKS
from engine.workloads import facts
from engine.workloads.data_shape import BatchShape, DataShape, Part
from engine.workloads.facts import NotReadError, assumed_shape, known_shape, remember
from engine.workloads.prepare import prepare
from tests.engine.make_reviews import write_reviews

WANTED: dict[str, Any] = {"tokenizer": None, "model_vocab_size": 5000, "pad_token_id": 0}


def _reviews(folder: Path, **more: Any) -> RunConfig:
    data = write_reviews(folder / "a.csv", 120)
    return RunConfig(**{"workload": "reviews", "data": str(data), "seq_len": 32, "samples": 50, **more})


def _text(folder: Path, **more: Any) -> RunConfig:
    file = folder / "a.txt"
    file.write_text("\n\n".join(f"the dog saw {i} cats and went home again {'so ' * (i % 7)}" for i in range(400)))
    return RunConfig(
        **{"workload": "text", "task": "causal-lm", "data": str(file), "seq_len": 32, "samples": 50, **more}
    )


def _shape(config: RunConfig) -> DataShape:
    return known_shape(config, **WANTED)


def _reads(config: RunConfig) -> int:
    told: list[None] = []
    known_shape(config, **WANTED, reading=lambda: told.append(None))
    return len(told)


@pytest.mark.parametrize("padding", ["longest", "bucketed", "max_length", "packed"])
def test_batches_have_the_shapes_that_the_collator_gives(tmp_path: Path, padding: str) -> None:
    config = _text(tmp_path, padding=padding) if padding == "packed" else _reviews(tmp_path, padding=padding)
    data, shape = prepare(config, **WANTED), _shape(config)
    assert (shape.vocab_size, shape.n_labels) == (data.vocab_size, data.n_labels)
    for samples, part in ((data.train, shape.train), (data.evaluation, shape.evaluation)):
        assert samples is not None
        assert part is not None
        order = list(reversed(range(len(samples))))
        for start, told in zip(range(0, len(order), 7), shape.batches(part, order, 7), strict=True):
            batch = data.collate([samples[i] for i in order[start : start + 7]])
            assert tuple(batch["input_ids"].shape) == told[:2]
            hides = (
                bool((batch["position_ids"][:, 1:] == 0).any())
                if padding == "packed"
                else not bool(batch["attention_mask"].all())
            )
            assert told.hides is hides
            fields = tuple((name, tensor.dim() > 1) for name, tensor in batch.items())
            assert fields == shape.fields


@pytest.mark.parametrize("task", TASKS)
def test_random_tokens_have_a_shape_without_being_drawn(task: str) -> None:
    target = 5 if task == "seq2seq-lm" else None
    config = RunConfig(task=task, samples=13, seq_len=16, target_len=target)
    drawn, shape = prepare(config).shape, _shape(config)
    assert shape.fields == drawn.fields
    assert shape.batches(shape.train, None, 4) == drawn.batches(drawn.train, None, 4)
    assert (shape.n_labels, shape.fields) == (drawn.n_labels, drawn.fields)
    last = shape.batches(shape.train, None, 4)[-1]
    assert last == BatchShape(1, 16, False, target or 0)
    data = prepare(config)
    batch = data.collate([data.train[i] for i in range(4)])
    first = shape.batches(shape.train, None, 4)[0]
    assert {name: tuple(t.shape) for name, t in batch.items()} == {
        name: first.shape_of(name, each) for name, each in shape.fields
    }
    assert shape.evaluation is drawn.evaluation is None
    assert _shape(config.with_values(samples=10_000_000, seq_len=512)).train.n == 10_000_000


def test_data_is_read_once_for_all_batch_sizes(tmp_path: Path) -> None:
    config = _reviews(tmp_path)
    assert _reads(config) == 1
    assert _reads(config.with_values(batch_size=3, epochs=5, precision="fp16")) == 0
    assert _reads(config.with_values(samples=20)) == 1


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    config = _reviews(tmp_path)
    before = _shape(config).vocab_size
    write_reviews(tmp_path / "a.csv", 121)
    assert _reads(config) == 1
    assert before is not None


def test_what_a_run_has_read_is_known(tmp_path: Path) -> None:
    config = _reviews(tmp_path)
    data = prepare(config, **WANTED)
    remember(config, data.shape, **WANTED)
    assert _reads(config) == 0


def test_what_takes_long_is_not_read_for_a_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "MOST_BYTES", 10)
    config = _text(tmp_path)
    with pytest.raises(NotReadError, match="no run has read it yet"):
        _shape(config)
    prepare(config, **WANTED)  # a run of another process
    assert _shape(config).train.n == 50
    with pytest.raises(NotReadError):
        _shape(RunConfig(workload="reviews", samples=facts.MOST_GENERATED))


def test_the_hub_is_not_asked() -> None:
    config = RunConfig(workload="reviews", data="yelp_review_full")
    with pytest.raises(NotReadError, match="it is on the hub"):
        _shape(config)


def test_what_a_run_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        _shape(_reviews(tmp_path, text_column="none"))
    assert refused.value.knob == "text_column"


def test_what_was_not_read_is_taken_for_the_most_and_said() -> None:
    config = RunConfig(workload="reviews", samples=20, seq_len=64)
    shape, told = assumed_shape(config, has_tokenizer=False, model_vocab_size=30_522)
    assert told == (
        "every sample has the full 64 tokens, there are 20 of them, in 5 classes and the vocabulary has 8,192 entries"
    )
    assert shape.batches(shape.train, None, 16) == [BatchShape(16, 64, True), BatchShape(4, 64, True)]
    own, told = assumed_shape(config, has_tokenizer=True, model_vocab_size=30_522)
    assert own.vocab_size is None
    assert "vocabulary" not in told


def test_samples_alike_need_no_order() -> None:
    alike = np.full(9, 5, dtype=np.int32)
    assert Part(tokens=alike).is_uniform
    assert not Part(tokens=np.arange(9, dtype=np.int32)).is_uniform
    assert not Part(tokens=alike, divided=np.arange(9) > 3).is_uniform
