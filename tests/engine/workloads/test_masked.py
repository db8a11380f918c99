"""Masked language models' data: samples, hidden words, and that they depend on seed, epoch and sample alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DataCollatorForLanguageModeling

from engine.contract.config import ConfigError, RunConfig
from engine.techniques.bucketing import epoch_order
from engine.techniques.preloading import build_loader
from engine.workloads.kinds.masked import masking_of
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from engine.workloads.standalone.masking import Masking
from engine.workloads.tokens.vocabulary import train_wordpiece
from tests.engine.make_reviews import make_rows
from tests.engine.workloads.test_reviews import words_tokenizer

TEXTS = [text for text, _ in make_rows(120)]
IGNORED = -100


def config_for(folder: Path, texts: list[str] = TEXTS, **knobs: Any) -> RunConfig:
    (folder / "texts.txt").write_text("\n\n".join(texts))
    own = {"workload": "text", "task": "masked-lm", "seq_len": 24, "data": str(folder / "texts.txt")}
    return RunConfig(**{**own, **knobs})


def whole(data: PreparedData) -> list[list[int]]:
    """The tokens of every training sample, nothing hidden."""
    flat, offsets = data.train.sequences["input_ids"], data.train.offsets
    return [flat[a:b].tolist() for a, b in pairwise(offsets)]


def test_each_text_is_a_sample_and_a_long_one_several(tmp_path: Path) -> None:
    data = prepare(config_for(tmp_path, ["short one", " ".join(TEXTS), *TEXTS[:20]]))
    tokenizer = data.tokenizer
    assert tokenizer is not None
    samples = whole(data)
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in samples)
    assert max(map(len, samples)) == 24
    words = [token for row in samples[1:] for token in row[1:-1]]
    long = tokenizer(" ".join(TEXTS), add_special_tokens=False)["input_ids"]
    assert words[: len(long)] == long
    assert tokenizer.decode(samples[0], skip_special_tokens=True) == "short one"
    batch = data.collate([data.train[0], data.train[1]])
    assert list(batch) == ["attention_mask", "input_ids", "labels"]
    n = len(samples[0])
    assert batch["labels"][0, n:].tolist() == [IGNORED] * (24 - n)
    assert batch["input_ids"][0, n:].tolist() == [tokenizer.pad_token_id] * (24 - n)
    assert any("15 % of the words" in note and "anew in each epoch" in note for note in data.notes)


def test_packed_rows_are_full_and_hold_every_text(tmp_path: Path) -> None:
    data = prepare(config_for(tmp_path, padding="packed"))
    assert {len(row) for row in whole(data)} == {24}
    assert set(data.collate([data.train[0], data.train[1]])) == {"input_ids", "labels"}
    assert data.tokenizer is not None
    read = [token for row in whole(data) for token in row]
    first = [token for text in TEXTS[:3] for token in data.tokenizer(text)["input_ids"]]
    assert read[: len(first)] == first


def test_words_are_hidden_as_transformers_hides_them() -> None:
    tokenizer = train_wordpiece(TEXTS)
    rows = [np.array(tokenizer(" ".join(TEXTS[i : i + 8]))["input_ids"]) for i in range(100)]
    masking = masking_of(tokenizer, 7, None)
    ours = [masking.hide(row, 0, i) for i, row in enumerate(rows)]
    torch.manual_seed(0)
    collator = DataCollatorForLanguageModeling(tokenizer)
    made = [collator([{"input_ids": row.tolist()}]) for row in rows]
    theirs = [(each["input_ids"][0].numpy(), each["labels"][0].numpy()) for each in made]
    shares = [_shares(rows, hidden, masking) for hidden in (ours, theirs)]
    for mine, other, meant in zip(*shares, (0.15, 0.8, 0.1), strict=True):
        assert mine == pytest.approx(other, abs=0.02)
        assert mine == pytest.approx(meant, abs=0.02)


def _shares(rows: list[Any], hidden: list[Any], masking: Masking) -> tuple[float, float, float]:
    """Of the words that are to be told, of those that are hidden, and of those that are replaced."""
    ids, seen, labels = (np.concatenate(each) for each in (rows, *zip(*hidden, strict=True)))
    chosen = labels != IGNORED
    assert (labels[chosen] == ids[chosen]).all()
    assert (seen[~chosen] == ids[~chosen]).all()
    is_special = np.isin(ids, masking.special)
    assert not chosen[is_special].any()
    is_hidden = seen[chosen] == masking.mask_id
    return (
        chosen.sum() / (~is_special).sum(),
        is_hidden.mean(),
        ((seen != ids)[chosen] & ~is_hidden).mean(),
    )


def test_a_short_text_has_a_word_to_tell() -> None:
    masking = Masking(seed=1, mask_id=4, n_words=50, special=(0, 1, 2, 3, 4))
    for place in range(50):
        _, labels = masking.hide(np.array([2, 9, 3]), 0, place)
        assert labels.tolist() == [IGNORED, 9, IGNORED]
    seen, labels = masking.hide(np.array([2, 3]), 0, 0)
    assert (seen.tolist(), set(labels.tolist())) == ([2, 3], {IGNORED})


def test_what_is_hidden_depends_on_seed_epoch_and_sample_alone(tmp_path: Path) -> None:
    """Not on the batch, the order, nor on the processes that prepare the batches."""
    config = config_for(tmp_path, batch_size=3, samples=10)
    data = prepare(config)
    of_each = [[data.train[epoch * 10 + i]["labels"].tolist() for i in range(10)] for epoch in range(2)]
    assert of_each[0] != of_each[1]
    assert prepare(config.with_values(seed=43)).train[0]["labels"].tolist() not in of_each[0]
    for padding, n_workers in (("longest", 0), ("bucketed", 0), ("longest", 1)):
        own = config.with_values(padding=padding, dataloader_num_workers=n_workers)
        order = epoch_order(own, data.train.lengths())
        loader = build_loader(own, data.train, data.collate, order=order, pin=False)
        for order.epoch in range(2):
            told = [row.tolist() for batch in loader for row in batch["labels"]]
            expected = [of_each[order.epoch][i] for i in order]
            assert [row[: len(label)] for row, label in zip(told, expected, strict=True)] == expected


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has none: use --task causal-lm, or a model of BERT's kind"):
        prepare(config_for(tmp_path), tokenizer=words_tokenizer("a b"), model_vocab_size=10)
