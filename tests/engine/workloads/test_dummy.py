"""The lecture's dummy data: its shape, its values, its independence of everything but the seed."""

from __future__ import annotations

import random

import numpy as np
import psutil
import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData


def prepared(model_vocab_size: int | None = 30_522, **knobs: object) -> PreparedData:
    config = RunConfig(**{"samples": 64, "seq_len": 32, **knobs})  # type: ignore[arg-type]
    return prepare(config, model_vocab_size=model_vocab_size)


def batch_of(data: PreparedData) -> dict[str, torch.Tensor]:
    return data.collate([data.train[i] for i in range(len(data.train))])


def test_the_lectures_own_size_and_values() -> None:
    data = prepared(samples=512, seq_len=512)
    batch = batch_of(data)
    assert set(batch) == {"input_ids", "labels"}  # no attention mask
    assert batch["input_ids"].shape == (512, 512)
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [0] * 512
    ids = batch["input_ids"]
    assert 100 <= int(ids.min()) < 110
    assert 29_990 <= int(ids.max()) < 30_000
    assert abs(float(ids.double().mean()) - 15_049.5) < 100  # uniform: standard error 17
    assert data.evaluation is None
    assert (data.n_labels, data.tokenizer, data.vocab_size) == (2, None, None)
    assert "[100, 30,000)" in data.notes[0]


def test_one_seed_gives_one_data_set() -> None:
    first, again, other = (batch_of(prepared(seed=seed))["input_ids"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_generators_are_left_alone() -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # type: ignore[index]
    prepared()
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize(("vocabulary", "lowest"), [(5_000, 100), (64, 0)])
def test_a_smaller_vocabulary_bounds_the_tokens_and_is_noted(vocabulary: int, lowest: int) -> None:
    data = prepared(vocabulary, samples=256)
    ids = batch_of(data)["input_ids"]
    assert lowest <= int(ids.min())
    assert int(ids.max()) < vocabulary
    assert any(f"only {vocabulary:,}" in note for note in data.notes)


def test_a_causal_language_model_predicts_its_input() -> None:
    batch = batch_of(prepared(task="causal-lm"))
    assert torch.equal(batch["labels"], batch["input_ids"])


def test_a_sequence_to_sequence_model_gets_other_tokens_of_the_same_length() -> None:
    batch = batch_of(prepared(task="seq2seq-lm"))
    assert batch["labels"].shape == batch["input_ids"].shape
    assert not torch.equal(batch["labels"], batch["input_ids"])


def test_more_than_the_free_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory()._replace(available=2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(ConfigError, match=r"needs 3,814\.7 GiB of RAM and 1\.0 GiB are free") as refused:
        prepared(samples=10_000_000, seq_len=102_400)
    assert refused.value.knob == "samples"


def test_a_file_given_to_the_dummy_workload_is_noted() -> None:
    assert "--workload reviews" in prepared(data="reviews.csv").notes[-1]


def test_a_masked_language_models_labels_are_15_percent_of_the_tokens() -> None:
    batch = batch_of(prepared(task="masked-lm", samples=256, seq_len=128))
    ids, labels = batch["input_ids"], batch["labels"]
    is_masked = labels != -100
    assert torch.equal(ids[is_masked], labels[is_masked])
    assert abs(float(is_masked.double().mean()) - 0.15) < 0.01  # standard error 0.002


def test_a_token_classifications_labels_are_a_class_of_every_token() -> None:
    data = prepared(task="token-classification")
    labels = batch_of(data)["labels"]
    assert labels.shape == (64, 32)
    assert labels.unique().tolist() == list(range(data.n_labels))
    assert data.label_names == tuple(map(str, range(data.n_labels)))


def test_an_answer_begins_in_its_text_and_does_not_end_before_it_begins() -> None:
    batch = batch_of(prepared(task="question-answering"))
    assert set(batch) == {"input_ids", "start_positions", "end_positions"}
    start, end = batch["start_positions"], batch["end_positions"]
    assert start.shape == end.shape == (64,)
    assert bool((start <= end).all())
    assert int(start.min()) >= 0
    assert int(end.max()) < 32
    assert len(start.unique()) > 16


@pytest.mark.parametrize(("target_len", "width"), [(None, 32), (5, 5)])
def test_a_target_has_a_length_of_its_own(target_len: int | None, width: int) -> None:
    batch = batch_of(prepared(task="seq2seq-lm", target_len=target_len))
    assert batch["input_ids"].shape == (64, 32)
    assert batch["labels"].shape == (64, width)
