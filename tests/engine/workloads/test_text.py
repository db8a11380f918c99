"""The text workload: blocks, packed rows, the vocabulary, the held-out tenth, and how it is scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import EvalDone
from engine.techniques import packing as isolation
from engine.techniques.preloading import build_loader
from engine.training.evaluation import evaluate
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.documents import border_of, split
from engine.workloads.standalone.byte_level import END_OF_TEXT
from engine.workloads.standalone.packing import IGNORED, assign, pack
from engine.workloads.tokens.byte_bpe import tokenise_documents, train_byte_bpe
from tests.engine.jobs import make_job
from tests.engine.make_reviews import make_rows, write_reviews


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config_for(data: object, **knobs: Any) -> RunConfig:
    values = {"workload": "text", "task": "causal-lm", "seq_len": 32, "samples": 40, "eval_samples": 10, **knobs}
    return RunConfig(data=None if data is None else str(data), **values)


def prepared(data: object, **knobs: Any) -> PreparedData:
    return prepare(config_for(data, **knobs))


def paragraphs(folder: Path, n: int = 300) -> Path:
    path = folder / "story.txt"
    path.write_text("\n\n".join(text for text, _ in make_rows(n)))
    return path


def decoded(data: PreparedData, part: Any) -> str:
    assert data.tokenizer is not None
    return str(data.tokenizer.decode([i for k in range(len(part)) for i in part[k]["input_ids"].tolist()]))


def test_a_text_file_becomes_full_blocks_with_ends_between_its_documents(tmp_path: Path) -> None:
    path = paragraphs(tmp_path)
    data = prepared(path, samples=1_000, eval_samples=1_000)
    assert data.evaluation is not None
    assert data.tokenizer is not None
    assert {len(data.train[i]["input_ids"]) for i in range(len(data.train))} == {32}
    item = data.train[0]
    assert torch.equal(item["input_ids"], item["labels"])
    assert set(data.collate([item, data.train[1]])) == {"input_ids", "labels"}  # full rows need no mask
    texts = path.read_text().split("\n\n")
    assert decoded(data, data.train).startswith(END_OF_TEXT.join(texts[:20]))
    held_out = decoded(data, data.evaluation)
    assert held_out.split(END_OF_TEXT)[1] in texts[-40:]
    share = len(data.evaluation) / (len(data.train) + len(data.evaluation))
    assert 0.07 < share < 0.13
    assert data.vocab_size == len(data.tokenizer)
    assert any("300 paragraphs" in note and "the last 10 % are held out" in note for note in data.notes)
    assert any("perplexity = exp(loss)" in note for note in data.notes)


def test_samples_and_eval_samples_bound_the_blocks(tmp_path: Path) -> None:
    data = prepared(paragraphs(tmp_path), samples=7, eval_samples=2)
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (7, 2)


def test_a_table_and_the_generator_give_documents_too(tmp_path: Path) -> None:
    data = prepared(write_reviews(tmp_path / "a.csv", 300))
    assert any("column 'text', 300 documents; 10 % are held out, by seed" in note for note in data.notes)
    again, other = prepared(tmp_path / "a.csv"), prepared(tmp_path / "a.csv", seed=1)
    assert decoded(data, data.train) == decoded(again, again.train) != decoded(other, other.train)
    made = prepared(None)
    assert any("The text is generated" in note for note in made.notes)
    assert len(made.train) == 40


@pytest.mark.parametrize(
    ("content", "knob", "words"),
    [
        (b"", "data", "is empty"),
        (b" \n\n ", "data", "is blank"),
        (b"caf\xe9", "data", "is not UTF-8"),
        (b"a few words only, not enough for a block", "seq_len", "use a smaller --seq-len or more text"),
    ],
)
def test_files_that_cannot_be_trained_on_are_refused(content: bytes, knob: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=words) as refused:
        prepared(tmp_path / "a.txt", seq_len=512)
    assert refused.value.knob == knob
    assert refused.value.message.isprintable()


def test_missing_files_and_wrong_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        prepared(tmp_path / "no.txt")
    with pytest.raises(ConfigError, match="use --task causal-lm") as refused:
        RunConfig(workload="text")
    assert refused.value.knob == "task"


@pytest.mark.parametrize("workload", ["dummy", "reviews"])
def test_packing_is_refused_with_the_reason_where_it_cannot_be(workload: str) -> None:
    with pytest.raises(ConfigError, match="--padding packed") as refused:
        RunConfig(workload=workload, padding="packed")
    assert refused.value.knob == "padding"


# the vocabulary


def test_a_byte_vocabulary_writes_everything_back_and_repeats() -> None:
    texts = [text for text, _ in make_rows(300)]
    tokenizer = train_byte_bpe(texts)
    assert tokenizer.get_vocab() == train_byte_bpe(texts).get_vocab()
    for text in ("The food, not bad!", "日本 👩‍👩‍👧 \x1b[2J\x00 é", " two  spaces\n\ttab "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert len(train_byte_bpe(texts, 300)) == 300
    with pytest.raises(ConfigError, match="too small for text"):
        train_byte_bpe(texts, 256)


def test_long_documents_are_tokenised_in_pieces_that_lose_nothing() -> None:
    tokenizer = train_byte_bpe([text for text, _ in make_rows(50)])
    document = "the food was good " * 5_000
    (tokens,) = tokenise_documents([document], tokenizer, 0, at_most=10**9)
    assert tokenizer.decode(tokens[:-1].tolist()) == document
    assert tokens[-1] == 0
    few = tokenise_documents([document, document], tokenizer, 0, at_most=100)
    assert [len(part) for part in few] == [100]


@pytest.mark.parametrize("lengths", [[1], [10], [5, 5], [3, 900, 3], [100] * 20, [1000]])
def test_the_split_holds_out_the_last_tenth_of_the_characters(lengths: list[int]) -> None:
    documents = [("word " * n)[:n] for n in lengths]
    train, held_out = split(documents, border_of(documents))
    assert "".join(train + held_out).replace(" ", "") == "".join(documents).replace(" ", "")
    assert len("".join(held_out)) <= 0.1 * sum(lengths) + 1


# packing


@pytest.mark.parametrize("seed", range(10))
def test_every_document_is_packed_once_and_no_row_overflows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = np.minimum(64, generator.lognormal(2.5, 0.8, 300).astype(int) + 2).tolist()
    rows = assign(lengths, 64)
    assert sorted(i for row in rows for i in row) == list(range(300))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 64
    assert len(rows) <= math.ceil(sum(lengths) / 64 * 1.1)  # best fit wastes little


def small(kind: str, attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel._from_config(
            GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2), attn_implementation=attention
        )
    elif kind == "llama":
        model = LlamaForCausalLM._from_config(
            LlamaConfig(vocab_size=300, num_key_value_heads=2, **sizes), attn_implementation=attention
        )
    else:
        model = BertLMHeadModel._from_config(
            BertConfig(vocab_size=300, is_decoder=kind == "bert-decoder", **sizes), attn_implementation=attention
        )
    model.config.use_cache = False  # as every run sets it; with a cache, transformers sees no packed rows
    return model.eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_packed_equals_each_document_alone(kind: str, attention: str) -> None:
    model = small(kind, attention)
    generator = np.random.default_rng(1)
    documents = [generator.integers(1, 300, n).astype(np.int32) for n in (9, 4, 17, 2, 30, 12, 5, 20)]
    rows = assign([len(d) for d in documents], 32)
    assert any(len(row) > 2 for row in rows)
    table = pack(documents, rows, 32, pad_token_id=0)
    packed = {name: torch.from_numpy(values.astype(np.int64)) for name, values in table.items()}
    model.zero_grad()
    together = model(**packed)
    together.loss.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    total, n_predicted = torch.zeros(()), sum(len(d) - 1 for d in documents)
    for row, members in enumerate(rows):
        start = 0
        for i in members:
            alone = torch.from_numpy(documents[i].astype(np.int64))[None]
            output = model(input_ids=alone, labels=alone)
            end = start + len(documents[i])
            torch.testing.assert_close(together.logits[row, start:end], output.logits[0], rtol=0, atol=1e-5)
            total = total + output.loss * (len(documents[i]) - 1)
            start = end
    (total / n_predicted).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(together.loss, total / n_predicted, rtol=0, atol=1e-5)
    assert int((packed["labels"] != IGNORED).sum()) == n_predicted
    for mine, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "causal", "apart"),
    [("gpt2", True, True), ("llama", True, True), ("bert-decoder", True, False), ("bert", False, False)],
)
def test_a_model_is_tried_before_it_is_trusted(kind: str, causal: bool, apart: bool) -> None:
    model = small(kind).train()
    state = torch.get_rng_state()
    assert isolation.is_causal(model) is causal
    assert isolation.keeps_documents_apart(model) is apart
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    packed = config_for(None, padding="packed", model="x")
    if not causal:
        with pytest.raises(ConfigError, match="sees the tokens that it has to predict"):
            isolation.check(model, packed)
    elif not apart:
        with pytest.raises(ConfigError, match="use --padding longest") as refused:
            isolation.check(model, packed)
        assert refused.value.knob == "padding"
        isolation.check(model, config_for(None))
    else:
        isolation.check(model, packed)


def test_packed_rows_keep_documents_whole_and_say_how_full_they_are(tmp_path: Path) -> None:
    data = prepared(paragraphs(tmp_path), padding="packed", samples=500)
    batch = data.collate([data.train[i] for i in range(len(data.train))])
    assert set(batch) == {"input_ids", "position_ids", "labels"}
    assert batch["input_ids"].shape[1] == 32
    starts = (batch["position_ids"] == 0) & (batch["labels"] == IGNORED)
    assert int(starts.sum()) >= 250
    assert torch.equal(batch["labels"][~starts], batch["input_ids"][~starts])
    assert any("documents packed in" in note and "% padding" in note for note in data.notes)


# scoring


@pytest.mark.parametrize("padding", ["longest", "packed"])
def test_the_held_out_loss_is_the_mean_over_tokens_and_there_is_no_accuracy(padding: str, tmp_path: Path) -> None:
    config = config_for(paragraphs(tmp_path), padding=padding, batch_size=3, device="cpu")
    data = prepare(config)
    assert data.evaluation is not None
    assert data.vocab_size is not None
    model = GPT2LMHeadModel(GPT2Config(vocab_size=data.vocab_size, n_embd=32, n_layer=1, n_head=2)).eval()
    recorded = make_job(config, model, data=data)
    recorded.job.eval_loader = build_loader(config, data.evaluation, data.collate, order=None, pin=False)
    assert evaluate(recorded.job, 1.0)
    (done,) = (event for event in recorded.events if isinstance(event, EvalDone))
    assert done.accuracy is None
    losses: list[float] = []
    for i in range(len(data.evaluation)):
        row = {name: tensor[None] for name, tensor in data.evaluation[i].items()}
        with torch.no_grad():
            logits = model(**{k: v for k, v in row.items() if k != "labels"}).logits[0, :-1]
        losses += torch.nn.functional.cross_entropy(logits, row["labels"][0, 1:], reduction="none").tolist()
    scored = [loss for loss in losses if loss != 0.0]  # 0 is what an ignored token gets
    assert done.loss == pytest.approx(sum(scored) / len(scored), abs=1e-4)
