"""Prompts from everywhere: typed, files of all kinds, made up and held out, and the tokens that become of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, PreTrainedTokenizerFast

from engine.answering.loading import Found
from engine.answering.prompts import Prompts, prepare_prompts
from engine.contract.config import ConfigError, RunConfig
from engine.training.hub import Hub
from engine.training.models import ModelSource
from engine.workloads.generated.instructions import make_talks
from engine.workloads.standalone.chat_tokens import PLAIN_TEMPLATE
from engine.workloads.tokens.byte_bpe import train_byte_bpe
from tests.engine.answering.asked import config_of

CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<A>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_byte_bpe(["Where does Ada go? Ada goes to Rome."] * 3, 300)


def found(tokenizer: PreTrainedTokenizerFast | None, template: str | None = None, trained: Any = None) -> Found:
    if tokenizer is not None:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>")
        tokenizer.chat_template = template
    source = ModelSource(
        name="m", config=GPT2Config(vocab_size=300), location=None, tokenizer=tokenizer, local_only=True, note=""
    )
    return Found(source=source, tokenizer=tokenizer, trained_on=trained)


def asked(config: RunConfig, who: Found) -> Prompts:
    return prepare_prompts(config, who, Hub(answers=False), lambda what: None)


def read(prompts: Prompts, who: Found) -> list[str]:
    assert who.tokenizer is not None
    return [who.tokenizer.decode(request.input_ids) for request in prompts.requests]


def config(**knobs: Any) -> RunConfig:
    return config_of(**{"requests": None, "prompt_len": None, **knobs})


def test_a_typed_prompt_is_asked_once_as_it_is(tokenizer: PreTrainedTokenizerFast) -> None:
    who = found(tokenizer)
    prompts = asked(config(prompt="Where does Ada go?"), who)
    assert read(prompts, who) == ["Where does Ada go?"]
    assert prompts.requests[0].text == "Where does Ada go?"
    assert (prompts.warmup.number, prompts.warmup.input_ids) == (0, prompts.requests[0].input_ids)


def test_a_typed_prompt_is_asked_once_whatever_number_is_asked_for(tokenizer: PreTrainedTokenizerFast) -> None:
    """As its notes say of `--requests` and `--repeats`: a response cache beside it has nothing to give."""
    who = found(tokenizer)
    assert read(asked(config(prompt="Where does Ada go?", requests=5, repeats=0.5), who), who) == ["Where does Ada go?"]


def test_a_typed_prompt_is_asked_in_the_models_template_or_without(tokenizer: PreTrainedTokenizerFast) -> None:
    who = found(tokenizer, CHATML)
    assert read(asked(config(prompt="Hi"), who), who) == ["<user>Hi<A>"]
    assert read(asked(config(prompt="Hi", chat_template=False), who), who) == ["Hi"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv", "a.tsv"])
def test_a_prompt_per_row_of_a_file(name: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = ["Where does Ada go?", "", "Rome, please"]
    said = "\n".join(rows)
    if "jsonl" in name:
        said = "\n".join(json.dumps({"id": i, "prompt": row}) for i, row in enumerate(rows))
    if "csv" in name or "tsv" in name:
        separator = "," if "csv" in name else "\t"
        said = "\n".join([f"id{separator}prompt", *(f'{i}{separator}"{row}"' for i, row in enumerate(rows))])
    file = tmp_path / name
    file.write_bytes(gzip.compress(said.encode()) if name.endswith(".gz") else said.encode())
    who = found(tokenizer)
    prompts = asked(config(prompts=str(file)), who)
    assert read(prompts, who) == [rows[0], rows[2]]
    assert [request.number for request in prompts.requests] == [1, 2]
    assert "1 row is passed over, without a prompt." in prompts.notes
    assert len(asked(config(prompts=str(file), requests=1), who).requests) == 1


def test_conversations_are_asked_up_to_their_last_answer(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    file = tmp_path / "talks.jsonl"
    file.write_text(json.dumps({"messages": talk}) + "\n" + json.dumps({"messages": talk[:2]}))
    who = found(tokenizer, CHATML)
    assert read(asked(config(prompts=str(file)), who), who) == ["<system>S<user>Q<A>"] * 2
    plain = found(tokenizer)
    prompts = asked(config(prompts=str(file)), plain)
    assert read(prompts, plain) == ["### System:\nS\n\n### User:\nQ\n\n### Assistant:\n"] * 2
    assert any("a plain one, as the model has none" in note for note in prompts.notes)


def test_alpacas_input_follows_its_instruction(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    file = tmp_path / "alpaca.jsonl"
    file.write_text(json.dumps({"instruction": "Sort.", "input": "b, a", "output": "a, b"}))
    who = found(tokenizer)
    assert read(asked(config(prompts=str(file)), who), who) == ["Sort.\n\nb, a"]


def test_of_a_long_prompt_the_end_is_kept_and_it_is_said(tokenizer: PreTrainedTokenizerFast) -> None:
    who = found(tokenizer)
    whole = asked(config(prompt="Where does Ada go? " * 9), who).requests[0].input_ids
    cut = asked(config(prompt="Where does Ada go? " * 9, prompt_len=7), who)
    assert cut.requests[0].input_ids == whole[-7:]
    assert "1 prompt is longer than 7 tokens: the end is kept (--prompt-len)." in cut.notes


def test_of_a_long_text_that_is_scored_the_beginning_is_kept_and_it_is_said(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    who, file = found(tokenizer), tmp_path / "texts.txt"
    file.write_text("Where does Ada go?\n" + "Ada goes to Rome. " * 9 + "\nRome.\n")
    scores = config(prompts=str(file), task="classification", max_new_tokens=128)
    whole = asked(scores, who)
    assert not any("longer than" in note for note in whole.notes)
    lengths = [len(request.input_ids) for request in whole.requests]
    cut = asked(scores.with_values(prompt_len=lengths[0]), who)  # the first has as many and is not cut
    assert [request.input_ids for request in cut.requests] == [
        request.input_ids[: lengths[0]] for request in whole.requests
    ]
    assert f"1 text is longer than {lengths[0]} tokens: the beginning is kept (--prompt-len)." in cut.notes


def test_generated_prompts_are_those_that_a_training_holds_out(tokenizer: PreTrainedTokenizerFast) -> None:
    trained = RunConfig(task="causal-lm", model="gpt2-tiny", workload="instructions", seed=7)
    who = found(tokenizer, PLAIN_TEMPLATE, trained)
    prompts = asked(config(prompts="generated", requests=3), who)
    for request, talk in zip(prompts.requests, make_talks(7, "test", 3), strict=True):
        assert request.text == talk[-2]["content"]
    held_out = asked(config(prompts="held-out", requests=3), who)
    assert [request.text for request in held_out.requests] == [request.text for request in prompts.requests]


def test_text_to_say_again_is_in_its_question(tokenizer: PreTrainedTokenizerFast) -> None:
    trained = RunConfig(task="causal-lm", model="gpt2-tiny", workload="instructions", seed=7)
    who = found(tokenizer, PLAIN_TEMPLATE, trained)
    prompts = asked(config(prompts="repeating", requests=20), who)
    texts = [request.text for request in prompts.requests]
    assert len(set(texts)) == 20
    assert all(text.startswith(("Repeat: ", "Say this word for word: ")) and text.count(".") == 3 for text in texts)
    assert all("### Assistant:" in written for written in read(prompts, who))
    assert texts == [request.text for request in asked(config(prompts="repeating", requests=20), who).requests]
    other = asked(config(prompts="repeating", requests=20, seed=1), who)
    assert texts != [request.text for request in other.requests]


def test_the_beginning_of_held_out_text_of_the_models_own_data(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    file = tmp_path / "own.txt"
    file.write_text("\n\n".join(f"Ada goes to Rome on day {i} of ten." for i in range(10)))
    trained = RunConfig(task="causal-lm", model="gpt2-tiny", workload="text", data=str(file))
    who = found(tokenizer, trained=trained)
    assert read(asked(config(prompts="held-out", requests=1), who), who) == ["goes to Rome on"]  # the border is in it
    with pytest.raises(ConfigError, match="no run of traintop is known: use --prompts generated"):
        asked(config(prompts="held-out"), found(tokenizer))


def test_a_model_without_a_tokenizer_reads_no_text() -> None:
    with pytest.raises(ConfigError, match=r"use --prompts dummy, or train it and ask that run's model: --model run:N"):
        asked(config(prompt="Hi"), found(None))
    assert len(asked(config(prompts="dummy", requests=2, prompt_len=5), found(None)).requests[0].input_ids) == 5


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\n \n", "has no prompt in it"),
        ("a.txt", b"caf\xe9\n" * 3, "is not UTF-8"),
        ("a.jsonl", b'{"prompt": "a"}\nnot json\n', "in line 2"),
        ("a.jsonl", b'[{"prompt": "a"}]', "write one object a line"),
        ("a.jsonl", b'{"messages": [{"content": "a"}]}', "has no role"),
        ("a.jsonl", b'{"a": 1, "b": 2}', "--text-column"),
        ("a.jsonl", b'{"messages": ' + b"[" * 100_000, "in line 1"),
        ("a.csv", b"a,b\n1,2\n", "--text-column"),
        ("a.csv.gz", b"no gzip", "a.csv.gz"),
        ("a.pdf", b"%PDF", "unknown extension"),
    ],
)
def test_a_hostile_file_is_one_sentence(
    name: str, content: bytes, said: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        asked(config(prompts=str(file)), found(tokenizer))
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.knob in ("prompts", "text_column")


def test_a_file_that_is_missing_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigError, match=r"--prompts '/nowhere/a.txt' does not exist"):
        asked(config(prompts="/nowhere/a.txt"), found(tokenizer))
    with pytest.raises(ConfigError, match="is neither dummy, generated, repeating nor held-out"):
        asked(config(prompts="genrated"), found(tokenizer))


def test_a_template_that_fails_is_told(tokenizer: PreTrainedTokenizerFast) -> None:
    who = found(tokenizer, "{{ raise_exception('no such thing') }}")
    with pytest.raises(ConfigError, match=r"no such thing.*--chat-template off"):
        asked(config(prompt="Hi"), who)
