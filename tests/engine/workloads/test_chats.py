"""Rows of instruction data as messages, and messages as tokens with labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from engine.contract.config import ConfigError
from engine.workloads.generated.instructions import make_talks
from engine.workloads.sources.chat_columns import find_chat_columns
from engine.workloads.standalone.chat_tokens import Conversation, TemplateError, encode, with_template
from engine.workloads.standalone.chats import ChatColumns, messages_of
from engine.workloads.tokens.byte_bpe import train_byte_bpe

ASKED, SAID = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}
TALK = [ASKED, SAID]
BOTH = ChatColumns(prompt="prompt", answer="completion")
MESSAGES = ChatColumns(messages="messages")
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
FORGETS = (  # a thought stands before the last answer alone
    "{% for m in messages %}{{ '<' + m['role'] + '>' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '[thought]' }}{% endif %}{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = train_byte_bpe([message["content"] for talk in make_talks(1, "train", 200) for message in talk])
    tokenizer.chat_template = template
    return tokenizer


def learned(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> str:
    return str(tokenizer.decode([label for label in conversation.labels if label >= 0]))


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"messages": TALK}, MESSAGES, TALK),
        ({"messages": json.dumps(TALK)}, MESSAGES, TALK),
        (
            {"messages": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4.", "weight": None}]},
            MESSAGES,
            TALK,
        ),
        ({"messages": [{**ASKED, "content": [{"type": "text", "text": "2 + 2?"}]}, SAID]}, MESSAGES, TALK),
        (
            {"messages": TALK, "s": "Be brief."},
            ChatColumns(messages="messages", system="s"),
            [{"role": "system", "content": "Be brief."}, *TALK],
        ),
        ({"prompt": "2 + 2?", "completion": "4."}, BOTH, TALK),
        ({"prompt": [ASKED], "completion": [SAID]}, BOTH, TALK),
        ({"prompt": "2 + 2?", "completion": 4}, BOTH, [ASKED, {"role": "assistant", "content": "4"}]),
        (
            {"instruction": "Add.", "input": "2, 2", "output": "4."},
            ChatColumns(prompt="instruction", context="input", answer="output"),
            [{"role": "user", "content": "Add.\n\n2, 2"}, SAID],
        ),
        (
            {"instruction": "2 + 2?", "input": "", "output": "4."},
            ChatColumns(prompt="instruction", context="input", answer="output"),
            TALK,
        ),
        ({"prompt": " ", "completion": "4."}, BOTH, []),
        ({"prompt": "2 + 2?", "completion": None}, BOTH, []),
        ({"messages": []}, MESSAGES, []),
        ({"messages": None}, MESSAGES, []),
    ],
)
def test_rows_become_messages(row: dict[str, Any], columns: ChatColumns, expected: list[Any]) -> None:
    assert messages_of(row, columns) == expected


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("hello", "messages is a text, not a list of messages"),
        ({"role": "user"}, "messages is no list of messages"),
        (["hello"], "message 1 of messages is no object with role and content"),
        ([ASKED, {"content": "4."}], "message 2 of messages has no role"),
        ([{"role": "user"}], "message 1 of messages has no content"),
        ([{"role": "user", "content": 3}], "message 1 of messages has a content that is no text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "message 1 of messages has parts that are no text"),
    ],
)
def test_what_is_no_conversation_is_told(messages: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        messages_of({"messages": messages}, MESSAGES)


@pytest.mark.parametrize(
    ("names", "lists", "given", "expected"),
    [
        (["id", "messages"], ["messages"], (None, None), MESSAGES),
        (["prompt", "prompt_id", "messages"], ["messages"], (None, None), MESSAGES),
        (["chat", "system"], ["chat"], (None, None), ChatColumns(messages="chat", system="system")),
        (["prompt", "completion"], [], (None, None), BOTH),
        (["prompt", "completion"], ["prompt", "completion"], (None, None), BOTH),
        (
            ["instruction", "input", "output", "text"],
            [],
            (None, None),
            ChatColumns(prompt="instruction", context="input", answer="output"),
        ),
        (["question", "answer"], [], (None, None), ChatColumns(prompt="question", answer="answer")),
        (["input", "output"], [], (None, None), ChatColumns(prompt="input", answer="output")),
        (["q", "a"], [], ("q", "a"), ChatColumns(prompt="q", answer="a")),
        (["q", "answer"], [], ("q", None), ChatColumns(prompt="q", answer="answer")),
        (["talk", "x"], ["talk"], ("talk", None), ChatColumns(messages="talk")),
        (["prompt", "a", "b"], [], (None, "b"), ChatColumns(prompt="prompt", answer="b")),
    ],
)  # fmt: skip
def test_columns_are_found_by_name(
    names: list[str], lists: list[str], given: tuple[str | None, str | None], expected: ChatColumns
) -> None:
    assert find_chat_columns(names, lists, "'a'", *given) == expected


@pytest.mark.parametrize(
    ("names", "given", "knob", "said"),
    [
        (["text", "label"], (None, None), "text_column", "has no messages, nor prompts with answers"),
        (["prompt", "x"], ("prompt", None), "target_column", "has no column of answers among 'prompt', 'x'"),
        (["prompt", "completion"], ("nope", None), "text_column", "has no column 'nope': it has 'prompt'"),
        (["prompt", "completion"], (None, "nope"), "target_column", "has no column 'nope'"),
        (["prompt", "completion"], ("prompt", "prompt"), "target_column", "name two columns"),
        (["prompt", "answer", "response"], (None, None), "target_column", "('answer', 'response'): name one with"),
        (["prompt", "question", "answer"], (None, None), "text_column", "name one with --text-column"),
    ],
)  # fmt: skip
def test_columns_that_are_not_plain_are_refused(
    names: list[str], given: tuple[str | None, str | None], knob: str, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        find_chat_columns(names, [], "'a'", *given)
    assert (refused.value.knob, said in refused.value.message) == (knob, True)


@pytest.mark.parametrize("template", [None, CHATML, MARKED])
def test_answers_alone_are_learned_in_every_turn(template: str | None) -> None:
    tokenizer = with_template(tokenizer_with(template))
    talk = [*TALK, {"role": "user", "content": "And 3 more?"}, {"role": "assistant", "content": "7 in all."}]
    (one,) = encode([talk], tokenizer, 200, answers_only=True).conversations
    assert one.ids.tolist() == list(tokenizer.apply_chat_template(talk, tokenize=True)["input_ids"])
    ends = {None: "4.<|endoftext|>7 in all.<|endoftext|>", MARKED: "4.<|endoftext|>7 in all.<|endoftext|>"}
    expected = ends.get(template, "4.<|im_end|>\n7 in all.<|im_end|>\n")
    assert learned(tokenizer, one) == expected
    (every,) = encode([talk], tokenizer, 200, answers_only=False).conversations
    assert every.labels[1:].tolist() == every.ids[1:].tolist()
    assert every.labels[0] == -100


def test_a_template_that_marks_answers_is_taken_at_its_word() -> None:
    """As transformers' own mask of the assistant's tokens has it."""
    tokenizer = tokenizer_with(MARKED)
    for talk, one in zip(
        make_talks(3, "train", 20),
        encode(make_talks(3, "train", 20), tokenizer, 500, answers_only=True).conversations,
        strict=True,
    ):
        theirs = tokenizer.apply_chat_template(talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        assert (one.labels >= 0).tolist() == [bool(each) for each in theirs["assistant_masks"]]


def test_an_answer_that_the_template_rewrites_is_not_learned_and_counted() -> None:
    tokenizer = tokenizer_with(FORGETS)
    talk: Sequence[Any] = [*TALK, ASKED, {"role": "assistant", "content": "Still 4."}]
    found = encode([talk], tokenizer, 200, answers_only=True)
    assert learned(tokenizer, found.conversations[0]) == "[thought]Still 4."
    assert found.n_untold == 1


def test_what_is_cut_and_what_has_no_answer_left_is_counted() -> None:
    tokenizer = with_template(tokenizer_with(None))
    long = {"role": "user", "content": "word " * 100}
    talks: list[Any] = [TALK, [long, SAID], [ASKED, {"role": "assistant", "content": "4 " * 100}], [ASKED]]
    found = encode(talks, tokenizer, 60, answers_only=True)
    assert (len(found.conversations), found.n_cut, found.n_without_answer) == (2, 1, 2)
    assert [len(each.ids) for each in found.conversations][1] == 60
    assert len(encode(talks * 9, tokenizer, 60, answers_only=True, at_most=5).conversations) == 5
    some = encode([TALK] * 99, tokenizer, 60, answers_only=True, at_most=100, tokens=True).conversations
    assert 100 <= sum(len(each.ids) for each in some) < 160


def test_a_template_that_refuses_a_conversation_is_quoted() -> None:
    tokenizer = tokenizer_with("{{ raise_exception('System role not supported') }}")
    with pytest.raises(TemplateError, match="System role not supported") as refused:
        encode([TALK], tokenizer, 60, answers_only=True)
    assert refused.value.place == 0
