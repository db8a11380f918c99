"""The instructions workload: from files to batches, packed rows whose conversations are apart, and refusals."""

from __future__ import annotations

import csv
import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.early import check_data
from engine.workloads.generated.instructions import make_talks
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from tests.engine.workloads.test_reviews import words_tokenizer

TALKS = make_talks(5, "train", 80)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def config_for(data: Path | None, **knobs: Any) -> RunConfig:
    own = {"workload": "instructions", "task": "causal-lm", "seq_len": 128, "data": None if data is None else str(data)}
    return RunConfig(**{**own, **knobs})


def lines(folder: Path, rows: list[Any], name: str = "talks.jsonl") -> Path:
    text = "\n".join(map(json.dumps, rows))
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder / name


def pairs() -> list[dict[str, str]]:
    """Prompts and completions."""
    asked = [[message["content"] for message in talk if message["role"] != "system"] for talk in TALKS]
    return [{"prompt": turns[0], "completion": turns[1]} for turns in asked]


def learned(data: PreparedData) -> list[str]:
    """What is learned of each training sample."""
    assert data.tokenizer is not None
    labels = (data.train[i]["labels"].tolist() for i in range(len(data.train)))
    return [data.tokenizer.decode([label for label in each if label >= 0]) for each in labels]


def test_messages_become_batches_whose_answers_alone_are_learned(tmp_path: Path) -> None:
    data = prepare(config_for(lines(tmp_path, [{"messages": talk} for talk in TALKS]), seq_len=160))
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (72, 8)
    answers = {"<|endoftext|>".join([m["content"] for m in t if m["role"] == "assistant"] + [""]) for t in TALKS}
    assert set(learned(data)) <= answers
    batch = data.collate([data.train[0], data.train[1]])
    assert list(batch) == ["attention_mask", "input_ids", "labels"]
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    notes = " ".join(data.notes)
    assert "messages in column 'messages'; 10 % are held out, by seed" in notes
    assert "in a plain template, as the model has none" in notes
    assert data.tokenizer is not None
    assert "### Assistant:" in str(data.tokenizer.chat_template)


def test_every_kind_of_table_gives_the_same_samples(tmp_path: Path) -> None:
    rows = pairs()
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "completion"], *([row["prompt"], row["completion"]] for row in rows)])
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    files = [
        lines(tmp_path, rows),
        lines(tmp_path, rows, "rows.jsonl.gz"),
        tmp_path / "rows.csv",
        tmp_path / "rows.parquet",
    ]
    told = []
    for file in files:
        check_data(config_for(file))
        told.append(learned(prepare(config_for(file))))
    assert told[0] == told[1] == told[2] == told[3]


def test_packed_conversations_do_not_see_each_other(tmp_path: Path) -> None:
    """A row's loss is that of its conversations one by one."""
    file = lines(tmp_path, [{"messages": talk} for talk in TALKS])
    packed = prepare(config_for(file, padding="packed", seq_len=256, samples=2))
    row = packed.train[0]
    starts = [i for i, at in enumerate(row["position_ids"].tolist()) if at == 0]
    assert len(starts) > 2
    shape = LlamaConfig(
        vocab_size=packed.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,  # as in a training: with a cache no row is taken for a packed one
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape).eval()
    with torch.no_grad():
        together = model(**packed.collate([row])).loss
        total, n = 0.0, 0
        for start, end in pairwise([*starts, len(row["labels"])]):
            labels = row["labels"][start:end][None]
            counted = int((labels[:, 1:] != -100).sum())
            if counted:
                ids = row["input_ids"][start:end][None]
                total += float(model(input_ids=ids, labels=labels).loss) * counted
                n += counted
    assert float(together) == pytest.approx(total / n, abs=1e-5)


def test_samples_and_knobs_bound_what_is_trained_on(tmp_path: Path) -> None:
    file = lines(tmp_path, [*pairs(), {"prompt": "no answer", "completion": ""}])
    data = prepare(config_for(file, samples=10, eval_samples=3, seq_len=50))
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (10, 3)
    assert any(note.startswith("1 of 81 rows have no prompt or no answer") for note in data.notes)
    assert any("are longer than 50 tokens and cut there" in note for note in data.notes)
    whole = prepare(config_for(file, completion_only_loss=False, samples=10))
    assert any("every token is learned" in note for note in whole.notes)
    assert all("User:" in text for text in learned(whole))


def test_generated_instructions_need_no_file() -> None:
    data = prepare(config_for(None, samples=20, eval_samples=5))
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (20, 5)
    assert any("made-up instructions" in note for note in data.notes)


BAD: dict[str, tuple[list[Any], str]] = {
    "no role": ([{"messages": [{"content": "hi"}]}], "Row 1 of 'talks.jsonl': message 1 of messages has no role"),
    "a text": ([{"messages": TALKS[0]}, {"messages": "oops"}], "Row 2 of 'talks.jsonl': messages is a text"),
    "no columns": ([{"text": "a", "label": 1}] * 2, "has no messages, nor prompts with answers"),
    "two answers": ([{"prompt": "a", "answer": "b", "response": "c"}] * 2, "name one with --target-column"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_instruction_data_is_told_early_in_the_same_words(tmp_path: Path, case: str) -> None:
    rows, said = BAD[case]
    config = config_for(lines(tmp_path, rows))
    with pytest.raises(ConfigError, match=said) as early:
        check_data(config)
    with pytest.raises(ConfigError) as later:
        prepare(config)
    assert early.value.message == later.value.message


def test_a_plain_text_is_no_instruction_data(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Once.")
    with pytest.raises(ConfigError, match="pairs or messages"):
        check_data(config_for(tmp_path / "a.txt"))


def test_too_short_rows_and_templates_that_hide_answers_are_refused(tmp_path: Path) -> None:
    file = lines(tmp_path, pairs())
    with pytest.raises(ConfigError, match="has an answer within 4 tokens: use a larger --seq-len"):
        prepare(config_for(file, seq_len=4))
    tokenizer = words_tokenizer("a b c", pad_token="<unk>")
    tokenizer.chat_template = "{{ messages | length }}"
    with pytest.raises(ConfigError, match="use --completion-only-loss off"):
        prepare(config_for(file), tokenizer=tokenizer, model_vocab_size=10)
    tokenizer.chat_template = "{{ raise_exception('only one turn') }}"
    with pytest.raises(ConfigError, match=r"cannot be written in the model's chat template \(only one turn\)"):
        prepare(config_for(file), tokenizer=tokenizer, model_vocab_size=10)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        (
            {"task": "seq2seq-lm"},
            "or --workload text, which reads prompts and completions as pairs",
        ),
        ({"task": "classification"}, "cannot train on instructions: use --task causal-lm."),
    ],
)
def test_other_tasks_are_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config_for(None, **knobs)
    assert said in refused.value.message
