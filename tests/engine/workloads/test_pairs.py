"""Pairs for seq2seq models: columns, two lengths, and the loss that the model makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.data_shape import BatchShape
from engine.workloads.early import check_data
from engine.workloads.generated.pairs import make_pairs
from engine.workloads.prepare import prepare
from engine.workloads.sources.pair_columns import find_pair, flat

SOURCES, TARGETS = make_pairs(3, "train", 60)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def config_for(data: Path | None, **knobs: Any) -> RunConfig:
    own = {"workload": "text", "task": "seq2seq-lm", "seq_len": 64, "data": None if data is None else str(data)}
    return RunConfig(**{**own, **knobs})


def tsv(folder: Path) -> Path:
    rows = ["en\tde", *(f"{source}\t{target}" for source, target in zip(SOURCES, TARGETS, strict=True)), "alone\t"]
    (folder / "pairs.tsv").write_text("\n".join(rows))
    return folder / "pairs.tsv"


def test_sources_and_targets_are_whole_and_apart(tmp_path: Path) -> None:
    data = prepare(config_for(tsv(tmp_path)))
    assert data.evaluation is not None
    assert data.tokenizer is not None
    assert len(data.train) + len(data.evaluation) == 60
    read = {
        tuple(data.tokenizer.decode(data.train[i][name], skip_special_tokens=True) for name in ("input_ids", "labels"))
        for i in range(len(data.train))
    }
    assert read <= set(zip(SOURCES, TARGETS, strict=True))
    assert all(data.train[i]["labels"][-1] == data.tokenizer.eos_token_id for i in range(len(data.train)))
    notes = " ".join(data.notes)
    assert "source in column 'en', target in column 'de'" in notes
    assert "1 of 61 rows lack one of the two" in notes


def test_lengths_are_bounded_each_by_its_knob(tmp_path: Path) -> None:
    data = prepare(config_for(tsv(tmp_path), seq_len=12, target_len=6))
    items = [data.train[i] for i in range(8)]
    batch = data.collate(items)
    assert list(batch) == ["attention_mask", "input_ids", "labels"]
    assert batch["input_ids"].shape == (8, 12)
    assert batch["labels"].shape == (8, 6)
    notes = " ".join(data.notes)
    assert "sources are longer than 12 tokens and cut (--seq-len)" in notes
    assert "targets are longer than 6 tokens and cut (--target-len)" in notes
    full = prepare(config_for(tsv(tmp_path), padding="max_length", target_len=40)).collate(items)
    assert (full["input_ids"].shape, full["labels"].shape) == ((8, 64), (8, 40))
    assert (full["labels"][:, 6:] == -100).all()
    shape = prepare(config_for(tsv(tmp_path))).shape
    lengths = shape.train
    assert lengths.targets is not None
    first = shape.batches(lengths, None, 4)[0]
    assert first == BatchShape(
        samples=4,
        width=int(lengths.tokens[:4].max()),
        hides=len(set(lengths.tokens[:4].tolist())) > 1,
        target=int(lengths.targets[:4].max()),
    )


def test_padding_changes_no_loss(tmp_path: Path) -> None:
    """The model makes the decoder's inputs; padded sources and targets count for nothing."""
    data = prepare(config_for(tsv(tmp_path)))
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=data.vocab_size, pad_token_id=0, **sizes)).eval()
    items = [data.train[i] for i in range(5)]
    with torch.no_grad():
        together = float(model(**data.collate(items)).loss)
        each = [float(model(**data.collate([item])).loss) * len(item["labels"]) for item in items]
    assert together == pytest.approx(sum(each) / sum(len(item["labels"]) for item in items), abs=1e-5)


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        ({"source": "a", "target": "b", "id": "c"}, (None, None), ("source", "target")),
        ({"article": "a", "highlights": "b", "id": 1}, (None, None), ("article", "highlights")),
        ({"prompt": "a", "completion": "b"}, (None, None), ("prompt", "completion")),
        ({"de": "a", "en": "b"}, (None, None), ("de", "en")),
        ({"de": "a", "en": "b"}, ("en", "de"), ("en", "de")),
        ({"text": "a", "other": "b"}, (None, None), ("text", "other")),
        ({"x": "a", "summary": "b"}, (None, None), ("x", "summary")),
        ({"a": "a", "b": "b", "c": "c"}, ("c", "a"), ("c", "a")),
        ({"translation": {"en": "a", "de": "b"}}, (None, None), ("translation.en", "translation.de")),
        ({"translation": {"en": "a", "de": "b"}}, ("translation.de", None), ("translation.de", "translation.en")),
    ],
)
def test_columns_are_found(
    columns: dict[str, object], given: tuple[str | None, str | None], expected: tuple[str, str]
) -> None:
    table = flat(datasets.Dataset.from_list([columns] * 2))
    assert find_pair(table, "'a'", *given) == expected


@pytest.mark.parametrize(
    ("columns", "given", "knob", "said"),
    [
        ({"text": "a", "label": 1}, (None, None), "target_column", "name source and target with --text-column"),
        ({"a": "a", "b": "b", "c": "c"}, (None, None), "target_column", "plainly the target among 'a'"),
        ({"a": "a", "b": "b"}, ("a", "x"), "target_column", "has no column 'x'"),
        ({"a": "a", "b": 1}, ("a", "b"), "target_column", "holds int64, not text"),
        ({"a": "a", "b": "b"}, ("a", "a"), "target_column", "name two columns"),
        ({"source": "a", "summary": "b", "title": "c"}, (None, None), "target_column", "('summary', 'title')"),
    ],
)
def test_columns_that_are_not_plain_are_refused(
    columns: dict[str, object], given: tuple[str | None, str | None], knob: str, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        find_pair(flat(datasets.Dataset.from_list([columns] * 2)), "'a'", *given)
    assert (refused.value.knob, said in refused.value.message) == (knob, True), refused.value.message


def test_generated_pairs_need_no_file() -> None:
    data = prepare(config_for(None, samples=12, eval_samples=4))
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (12, 4)
    assert any("made-up pairs of sentences" in note for note in data.notes)


def test_a_plain_text_and_packing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Once.")
    with pytest.raises(ConfigError, match="a table of texts with labels, pairs or messages"):
        check_data(config_for(tmp_path / "a.txt"))
    with pytest.raises(ConfigError, match="reads one text to write one: use --padding bucketed"):
        config_for(None, padding="packed")
