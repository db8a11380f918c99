"""Tokens kept between runs: found again for the same content and settings, made again for others or when damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.paths import cache_dir
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from engine.workloads.tokens import token_cache
from tests.engine.make_reviews import write_reviews
from tests.engine.workloads.test_reviews import words_tokenizer

FROM_CACHE = "The tokens were made before, and are from the cache."


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_reviews(tmp_path / "a.csv", 100)


def config_for(file: Path, **knobs: Any) -> RunConfig:
    return RunConfig(**{"workload": "reviews", "data": str(file), "seq_len": 32, **knobs})


def entries() -> list[Path]:
    return sorted((cache_dir() / "tokens").glob("*"))


def assert_same(one: PreparedData, other: PreparedData) -> None:
    assert one.evaluation is not None
    assert other.evaluation is not None
    for mine, theirs in ((one.train, other.train), (one.evaluation, other.evaluation)):
        assert len(mine) == len(theirs)
        for i in range(len(mine)):
            assert all(torch.equal(tensor, theirs[i][name]) for name, tensor in mine[i].items())
            assert mine[i].keys() == theirs[i].keys()
    assert one.tokenizer is not None
    assert other.tokenizer is not None
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    text = "The FOOD was not bad"
    assert one.tokenizer(text)["input_ids"] == other.tokenizer(text)["input_ids"]
    assert one.tokenizer.special_tokens_map == other.tokenizer.special_tokens_map
    fields = ("n_labels", "label_names", "vocab_size", "pad_token_id", "collate")
    assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]


def lm(file: Path, padding: str) -> RunConfig:
    return config_for(file, workload="text", task="causal-lm", padding=padding)


@pytest.mark.parametrize("kind", ["reviews", "longest", "packed"])
def test_the_second_run_finds_what_the_first_made(file: Path, kind: str) -> None:
    config = config_for(file) if kind == "reviews" else lm(file, kind)
    told: list[str] = []
    first, second = prepare(config), prepare(config, report=told.append)
    assert_same(first, second)
    assert set(told) == {"reading 'a.csv'"}  # to know it by its content; nothing is made of it again
    assert FROM_CACHE not in first.notes
    assert second.notes == (*first.notes, FROM_CACHE)
    assert len(entries()) == 1


def test_what_changes_the_tokens_changes_the_entry_and_nothing_else_does(file: Path) -> None:
    prepare(config_for(file))
    for same in ({"batch_size": 3}, {"learning_rate": 1.0}, {"padding": "max_length"}, {"padding": "bucketed"}):
        assert FROM_CACHE in prepare(config_for(file, **same)).notes
    for other in ({"seq_len": 31}, {"samples": 7}, {"eval_samples": 7}, {"seed": 1}, {"text_column": "text"}):
        assert FROM_CACHE not in prepare(config_for(file, **other)).notes
    for words in ("a b", "a c"):
        own = words_tokenizer(words, pad_token="<unk>")
        assert FROM_CACHE not in prepare(config_for(file), tokenizer=own).notes
        own(["a b"], truncation=True, max_length=1)  # a call leaves its settings in the tokenizer
        assert FROM_CACHE in prepare(config_for(file), tokenizer=own).notes
    assert FROM_CACHE not in prepare(config_for(file), model_vocab_size=300).notes


def test_the_content_counts_and_not_the_time(file: Path) -> None:
    prepare(config_for(file))
    os.utime(file, (1, 1))
    assert FROM_CACHE in prepare(config_for(file)).notes
    content = file.read_text()
    file.write_text(content.replace("not ", "now "))
    os.utime(file, (1, 1))
    assert FROM_CACHE not in prepare(config_for(file)).notes


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "arrays"])
def test_a_damaged_entry_is_made_again_with_a_note(file: Path, damage: str) -> None:
    first = prepare(config_for(file))
    (entry,) = entries()
    content = bytearray(entry.read_bytes())
    if damage == "empty":
        entry.write_bytes(b"")
    elif damage == "cut":
        entry.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[300] ^= 0xFF
        entry.write_bytes(content)
    elif damage == "other":
        entry.write_bytes(b"PK\x03\x04 something else")
    else:
        arrays = dict(np.load(entry))
        arrays["train sequence input_ids"] = arrays["train sequence input_ids"][:-5]
        with entry.open("wb") as out:
            np.savez(out, **arrays)
    again = prepare(config_for(file))
    assert_same(first, again)
    assert again.notes[-1] == "The tokens kept in the cache were damaged, and were made again."
    assert FROM_CACHE in prepare(config_for(file)).notes


def test_pickles_are_never_read(file: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    prepare(config_for(file))
    (entry,) = entries()
    with entry.open("wb") as out:
        np.savez(out, about=np.array([Trap()], dtype=object))
    prepare(config_for(file))
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_costs_a_note_and_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(out: Any, **arrays: Any) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    data = prepare(config_for(file))
    assert data.notes[-1].startswith("The tokens could not be kept for the next run in ")
    assert data.notes[-1].endswith("(No space left on device).")
    assert entries() == []


def test_a_home_that_cannot_be_written_costs_notes(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("a file where a folder belongs")
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "occupied"))
    data = prepare(config_for(file))
    assert len(data.train) == 80
    assert any("the rows are kept in memory" in note for note in data.notes)
    assert any("could not be kept for the next run" in note for note in data.notes)
    assert len(prepare(config_for(tmp_path, data=None, samples=10)).train) == 10


def test_the_oldest_go_when_there_is_no_room(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(config_for(file))
    (first,) = entries()
    os.utime(first, (1, 1))
    monkeypatch.setattr(token_cache, "LIMIT", first.stat().st_size + 100)
    prepare(config_for(file, seed=1))
    assert first not in entries()
    assert len(entries()) == 1
