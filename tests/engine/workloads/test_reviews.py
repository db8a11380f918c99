"""Labelled text from a file to batches: the split, the vocabulary, the padding, and that all of it repeats."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.rows import stratified_split
from engine.workloads.standalone.first_texts import MAX_VOCABULARY
from engine.workloads.tokens.vocabulary import train_wordpiece
from tests.engine.make_reviews import make_rows, write_reviews


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", 300)


def config_for(file: Path, **knobs: object) -> RunConfig:
    return RunConfig(**{"workload": "reviews", "data": str(file), "seq_len": 32, **knobs})  # type: ignore[arg-type]


def words_tokenizer(words: str, **special: str) -> PreTrainedTokenizerFast:
    """A model's own tokenizer, of whole words, without special tokens around a text."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", *words.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def all_ids(data: PreparedData) -> list[list[int]]:
    assert data.evaluation is not None
    return [part[i]["input_ids"].tolist() for part in (data.train, data.evaluation) for i in range(len(part))]


def all_labels(data: PreparedData) -> list[int]:
    assert data.evaluation is not None
    return [int(part[i]["labels"]) for part in (data.train, data.evaluation) for i in range(len(part))]


def write_tiny(folder: Path, text: str, n: int = 8) -> Path:
    path = folder / "tiny.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": i % 2}) + "\n" for i in range(n)))
    return path


def test_a_file_becomes_two_parts_a_vocabulary_and_notes(reviews: Path) -> None:
    told: list[str] = []
    data = prepare(config_for(reviews), report=told.append)
    assert data.evaluation is not None
    assert data.tokenizer is not None
    assert (len(data.train), len(data.evaluation)) == (240, 60)
    assert (data.n_labels, data.label_names) == (2, ("negative", "positive"))
    assert data.vocab_size == len(data.tokenizer)
    assert data.pad_token_id == data.tokenizer.pad_token_id == 0
    item = data.train[0]
    assert set(item) == {"input_ids", "labels"}
    assert item["input_ids"].dtype == item["labels"].dtype == torch.int64
    assert (item["input_ids"].dim(), item["labels"].dim()) == (1, 0)
    assert "text in column 'text', 2 classes in column 'label': 'negative', 'positive'" in data.notes[0]
    share = max(np.bincount(all_labels(data)[240:])) / 60 * 100
    assert data.notes[1].startswith(f"300 rows: trains on 240, holds out 60; majority class {share:.1f} %")
    # told again and again while it lasts, so that a run can be stopped there
    assert list(dict.fromkeys(told)) == ["reading 'reviews.csv'", "training a vocabulary", "tokenising 300 texts"]


def test_every_text_is_in_one_part_with_its_own_label(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"word{i},{'even' if i % 2 == 0 else 'odd'}\n" for i in range(50)))
    own = words_tokenizer(" ".join(f"word{i}" for i in range(50)), pad_token="<unk>")
    data = prepare(config_for(path), tokenizer=own)
    numbers = [ids[0] - 1 for ids in all_ids(data)]
    assert sorted(numbers) == list(range(50))
    assert all_labels(data) == [number % 2 for number in numbers]
    assert numbers != sorted(numbers)


def test_samples_takes_the_first_of_the_shuffled_part_and_leaves_the_rest_alone(reviews: Path) -> None:
    whole, part = (prepare(config_for(reviews, samples=n)) for n in (1_000, 50))
    assert part.vocab_size == whole.vocab_size
    assert all_ids(part) == all_ids(whole)[:50] + all_ids(whole)[240:]
    assert "trains on 50 of 240 (samples), holds out 60" in part.notes[1]


def test_eval_samples_bounds_the_held_out_part(reviews: Path) -> None:
    data = prepare(config_for(reviews, eval_samples=10))
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (290, 10)


@pytest.mark.parametrize("seed", range(20))
def test_the_split_keeps_every_classs_share_and_every_class_on_both_sides(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n_classes = int(generator.integers(2, 12))
    sizes = 2 + (generator.pareto(1.0, n_classes) * 10).astype(int)
    ids = generator.permutation(np.repeat(np.arange(n_classes), sizes))
    cap = int(generator.integers(1, 2 * len(ids)))
    train, held_out = stratified_split(ids, n_classes, eval_samples=cap, seed=seed)
    assert sorted([*train, *held_out]) == list(range(len(ids)))
    assert len(held_out) == min(max(round(0.2 * len(ids)), n_classes), cap)
    taken = np.bincount(ids[held_out], minlength=n_classes)
    assert np.all(sizes - taken >= 1)
    if len(held_out) >= n_classes:
        assert np.all(taken >= 1)
        assert np.all(taken <= np.ceil(np.maximum(len(held_out) * sizes / len(ids), 1)))
    again = stratified_split(ids, n_classes, eval_samples=cap, seed=seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(held_out, again[1])


def test_one_seed_gives_one_split(reviews: Path) -> None:
    first, again, other = (prepare(config_for(reviews, seed=seed)) for seed in (1, 1, 2))
    assert all_ids(first) == all_ids(again)
    assert all_labels(first) == all_labels(again)
    assert all_labels(first) != all_labels(other)


PROGRAM = """
import socket, sys
def refuse(*args): raise OSError("no network in this test")
socket.socket.connect = refuse
import hashlib, os
from engine.contract.config import RunConfig
from engine.workloads.prepare import prepare
data = prepare(RunConfig(workload="reviews", data=sys.argv[1], seq_len=16))
parts = [part[i] for part in (data.train, data.evaluation) for i in range(len(part))]
figures = [(item["input_ids"].tolist(), int(item["labels"])) for item in parts]
digest = hashlib.sha256(repr((figures, sorted(data.tokenizer.get_vocab().items()), data.notes)).encode()).hexdigest()
os.write(int(sys.argv[2]), digest.encode())
"""


@pytest.mark.slow
def test_processes_agree_print_nothing_and_write_only_into_the_cache(reviews: Path, tmp_path: Path) -> None:
    digests = []
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        user = tmp_path / f"user{hash_seed}"
        user.mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))},
            "HOME": str(user),
            "TRAINTOP_HOME": str(tmp_path / f"home{hash_seed}"),
            "PYTHONHASHSEED": hash_seed,
            "RAYON_NUM_THREADS": threads,
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        reader, writer = os.pipe()
        command = [sys.executable, "-c", PROGRAM, str(reviews), str(writer)]
        done = subprocess.run(command, env=environment, pass_fds=[writer], capture_output=True, text=True, check=False)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            digests.append(pipe.read())
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert [path for path in user.rglob("*") if path.is_file()] == []
        assert (tmp_path / f"home{hash_seed}" / "cache" / "datasets").is_dir()
    assert digests[0] == digests[1] != b""


def test_all_formats_give_the_same_data(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in make_rows(60)]
    write_reviews(tmp_path / "a.csv", 60)
    write_reviews(tmp_path / "a.tsv", 60, separator="\t")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    prepared = [prepare(config_for(tmp_path / f"a.{end}")) for end in ("csv", "tsv", "jsonl", "json", "parquet")]
    for other in prepared[1:]:
        assert all_ids(other) == all_ids(prepared[0])
        assert all_labels(other) == all_labels(prepared[0])
        assert other.label_names == prepared[0].label_names


def test_rows_without_text_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "good day,1\nbad day,0\n" * 5 + ",1\n  ,0\nno label,\nshort\ntext,label\n")
    data = prepare(config_for(path))
    assert len(all_ids(data)) == 10
    assert "5 of 15 rows have no text or no label, or repeat the header, and were left out." in data.notes


def test_nulls_of_typed_files_are_left_out_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = {"text": ["a b", "c d", None, "e f"] * 3, "label": [1.0, 2.0, 1.0, float("nan")] * 3}
    datasets.Dataset.from_dict(rows).to_parquet(path)
    data = prepare(config_for(path))
    assert len(all_ids(data)) == 6
    assert data.label_names == ("1", "2")


def test_nothing_but_empty_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + ",1\n,2\n" * 3)
    with pytest.raises(ConfigError, match="have no row with both a text and a label"):
        prepare(config_for(path, text_column="text"))


def test_texts_are_cut_at_the_sequence_length_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "text,label\n" + "".join(f"{'one two three four five' if i < 5 else 'one'},{i % 2}\n" for i in range(20))
    )
    data = prepare(config_for(path, seq_len=6))
    assert max(map(len, all_ids(data))) == 6
    assert "25.0 % of the texts are longer than 6 tokens and were cut there." in data.notes
    assert not any("cut there" in note for note in prepare(config_for(path, seq_len=7)).notes)


def test_repeated_texts_across_the_split_are_noted(tmp_path: Path) -> None:
    notes = prepare(config_for(write_tiny(tmp_path, "the same"))).notes
    assert "100.0 % of the held-out texts also occur in training, which flatters the accuracy." in notes


def test_padding_to_the_longest_and_to_the_maximum(reviews: Path) -> None:
    for padding in ("longest", "max_length"):
        data = prepare(config_for(reviews, padding=padding, seq_len=64))
        items = [data.train[i] for i in range(8)]
        lengths = [len(item["input_ids"]) for item in items]
        batch = data.collate(items)
        width = 64 if padding == "max_length" else max(lengths)
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (8, width)
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
        assert batch["labels"].shape == (8,)
        for row, mask, item, length in zip(batch["input_ids"], batch["attention_mask"], items, lengths, strict=True):
            assert mask.tolist() == [1] * length + [0] * (width - length)
            assert row.tolist() == item["input_ids"].tolist() + [0] * (width - length)


def test_the_collator_and_the_samples_can_be_pickled(reviews: Path) -> None:
    data = prepare(config_for(reviews))
    copy, collate = pickle.loads(pickle.dumps((data.train, data.collate)))
    expected, found = data.collate([data.train[0], data.train[1]]), collate([copy[0], copy[1]])
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_a_worker_started_by_forkserver_gives_the_same_batches(reviews: Path) -> None:
    data = prepare(config_for(reviews))
    here = DataLoader(data.train, batch_size=100, collate_fn=data.collate)
    there = DataLoader(
        data.train, batch_size=100, collate_fn=data.collate, num_workers=1, multiprocessing_context="forkserver"
    )
    for expected, found in zip(here, there, strict=True):
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_models_own_tokenizer_is_used(reviews: Path) -> None:
    own = words_tokenizer("the was and good bad", eos_token="<unk>")
    data = prepare(config_for(reviews), tokenizer=own, model_vocab_size=6)
    assert data.tokenizer is own
    assert data.vocab_size is None
    assert max(max(ids) for ids in all_ids(data)) <= 5
    assert any("the model's own" in note for note in data.notes)


@pytest.mark.parametrize(
    ("special", "models_pad", "expected"),
    [({"pad_token": "the"}, 4, 1), ({"eos_token": "was"}, 4, 4), ({"eos_token": "was"}, None, 2), ({}, None, 0)],
)
def test_the_padding_token_is_the_tokenizers_then_the_models_then_the_end(
    reviews: Path, special: dict[str, str], models_pad: int | None, expected: int
) -> None:
    own = words_tokenizer("the was and good bad", **special)
    data = prepare(config_for(reviews, padding="max_length"), tokenizer=own, pad_token_id=models_pad)
    assert data.pad_token_id == expected
    assert int(data.collate([data.train[0]])["input_ids"][0, -1]) == expected


def test_a_tokenizer_that_outgrows_the_embedding_is_refused(reviews: Path) -> None:
    own = words_tokenizer("the was and good bad", pad_token="<unk>")
    with pytest.raises(ConfigError, match="its embedding has 2 rows") as refused:
        prepare(config_for(reviews), tokenizer=own, model_vocab_size=2)
    assert refused.value.knob == "model"


def test_a_vocabulary_is_trained_on_the_training_part_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"wordnumber{i}x wordnumber{i}x,{i % 2}\n" for i in range(20)))
    data = prepare(config_for(path))
    assert data.tokenizer is not None
    assert data.evaluation is not None
    vocabulary = data.tokenizer.get_vocab()
    # a trained-on word occurs twice, which makes it an entry; a held-out one never does
    counts = [[len(part[i]["input_ids"]) for i in range(len(part))] for part in (data.train, data.evaluation)]
    assert set(counts[0]) == {4}
    assert min(counts[1]) > 4
    assert len(vocabulary) == data.vocab_size


def test_a_vocabulary_is_berts_in_form_and_bounded() -> None:
    texts = [text for text, _ in make_rows(500)]
    tokenizer = train_wordpiece(texts)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("The FOOD")["input_ids"]) == ["[CLS]", "the", "food", "[SEP]"]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert len(tokenizer) < MAX_VOCABULARY
    assert len(train_wordpiece(texts, 100)) <= 100
    with pytest.raises(ConfigError, match="too small for text"):
        train_wordpiece(texts, 40)


def test_a_wide_alphabet_keeps_its_commonest_letters_within_the_vocabulary() -> None:
    texts = ["".join(chr(0x4E00 + i) for i in range(5_000)), "common words " * 100]
    tokenizer = train_wordpiece(texts, 300)
    assert len(tokenizer) <= 300
    assert "[UNK]" not in tokenizer.tokenize("common words")


HOSTILE = {
    "escapes": "\x1b]0;title\x07\x1b[2J\u202egnirts\u0000",
    "ten megabytes": "word " * 2_000_000,
    "one long word": "x" * 1_000_000,
    "only invisible": "\u200b\u200d",
    "special tokens": "[PAD] [CLS] [SEP] [MASK] [UNK]",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 الله é",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_trained_on_like_others(tmp_path: Path, text: str) -> None:
    file = write_tiny(tmp_path, text, n=4)
    for own in (None, words_tokenizer("a b", eos_token="a")):
        data = prepare(config_for(file), tokenizer=own)
        batch = data.collate([data.train[0], data.train[1]])
        assert 1 <= batch["input_ids"].size(1) <= 32
        assert all(note.isprintable() for note in data.notes)


def test_hostile_names_are_printable_wherever_they_are_told(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31mred.csv"
    path.write_text("text,\x1b[2Jmood\n" + "good day,\x1b[1mfine\nbad day,sad\n" * 5)
    told: list[str] = []
    data = prepare(config_for(path), report=told.append)
    assert all(line.isprintable() for line in [*told, *data.notes, *data.label_names])
    with pytest.raises(ConfigError, match=re.escape("'·[31mred.csv' has no column 'x'")) as refused:
        prepare(config_for(path, text_column="x"))
    assert refused.value.message.isprintable()


@pytest.mark.slow
def test_a_small_bert_learns_what_the_reviews_say(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    data = prepare(config_for(write_reviews(tmp_path / "a.csv"), samples=2_000, seq_len=64))
    assert data.evaluation is not None
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
    model = BertForSequenceClassification(BertConfig(vocab_size=data.vocab_size, num_labels=data.n_labels, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    for _ in range(3):
        for batch in DataLoader(data.train, batch_size=16, shuffle=True, collate_fn=data.collate):
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    batch = data.collate([data.evaluation[i] for i in range(len(data.evaluation))])
    with torch.no_grad():
        right = model(**batch).logits.argmax(-1) == batch["labels"]
    assert right.double().mean() > 0.7  # the majority class is 0.54
