"""Messages -> tokens with labels, through the tokenizer's chat template or a plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "### {{ message['role'] | capitalize }}:\n{{ message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{% if messages %}{{ '\n\n' }}{% endif %}### Assistant:\n{% endif %}"
)
"""What is taken where a tokenizer brings no chat template: each message under its role, the end-of-text token behind an
answer."""
WITHOUT_LABEL = -100
_TOGETHER = 256  # conversations that are tokenised at once
Tokens32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation as the model reads it."""

    ids: Tokens32
    """Shape (tokens,)."""
    labels: Tokens32
    """Likewise: the tokens that are learned, -100 elsewhere; a first token is never learned."""


@dataclass(slots=True, kw_only=True)
class Encoded:
    """Conversations that can be learned from, and what became of the others."""

    conversations: list[Conversation]
    n_cut: int = 0
    """Longer than allowed, and cut."""
    n_without_answer: int = 0
    """Left out, as no answer, or nothing of one, is in what was kept."""
    n_untold: int = 0
    """Answers that have no loss, as the template does not let them be told from the rest."""


class TemplateError(ValueError):
    """A conversation that the template does not take; `place` is its number in the list. The message says why."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(why)
        self.place = place


def with_template(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with a chat template: its own where it has one."""
    if tokenizer.chat_template:
        return tokenizer
    other: PreTrainedTokenizerBase = copy(tokenizer)
    other.chat_template = PLAIN_TEMPLATE
    return other


def encode(
    conversations: Sequence[Sequence[dict[str, Any]]],
    tokenizer: PreTrainedTokenizerBase,
    seq_len: int,
    *,
    answers_only: bool,
    at_most: int | None = None,
    tokens: bool = False,
    ask: Callable[[], None] = lambda: None,
) -> Encoded:
    """Conversations in the tokenizer's chat template, each cut at `seq_len` tokens, until there are `at_most`.

    `answers_only` gives labels to what the assistant says alone. `at_most` counts conversations, or their tokens where
    `tokens`; None takes all. `ask` is called now and then. Raises `TemplateError`.
    """
    found, room = Encoded(conversations=[]), at_most
    for start in range(0, len(conversations), _TOGETHER):
        ask()
        part = conversations[start : start + _TOGETHER]
        written = [_written(messages, tokenizer, start + i, answers_only) for i, messages in enumerate(part)]
        rows = tokenizer(
            [each.text for each in written],
            add_special_tokens=False,  # the template has written them
            return_attention_mask=False,
            return_offsets_mapping=answers_only,
            truncation=False,
            verbose=False,
        )
        for i, each in enumerate(written):
            if room is not None and room <= 0:
                return found
            ids = np.array(rows["input_ids"][i], dtype=np.int32)
            learned = np.ones(len(ids), dtype=bool)
            if answers_only:
                learned = _touched(np.array(rows["offset_mapping"][i], dtype=np.int64).reshape(-1, 2), each.answers)
            learned[:1] = False
            found.n_untold += each.n_untold
            if not learned[:seq_len].any():
                found.n_without_answer += 1
                continue
            found.n_cut += len(ids) > seq_len
            kept = Conversation(
                ids=ids[:seq_len], labels=np.where(learned, ids, WITHOUT_LABEL)[:seq_len].astype(np.int32)
            )
            found.conversations.append(kept)
            if room is not None:
                room -= len(kept.ids) if tokens else 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    text: str
    answers: list[tuple[int, int]]
    """From which to before which character each answer goes, with what the template ends it with."""
    n_untold: int


def _written(
    messages: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, place: int, answers_only: bool
) -> _Written:
    """The conversation as one text. Raises `TemplateError`."""
    try:
        if not answers_only:
            return _Written(text=_text(messages, tokenizer), answers=[], n_untold=0)
        if "{% generation" in tokenizer.get_chat_template().replace("{%-", "{%"):
            return _marked(messages, tokenizer)
        return _told_apart(messages, tokenizer)
    except Exception as error:  # a template is code: jinja's errors, and those of what it calls
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TemplateError(place, lines[0]) from None


def _text(messages: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, asks: bool = False) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks))


def _marked(messages: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> _Written:
    """By a template that marks itself what the model is to say, between `generation` and `endgeneration`."""
    texts, spans = render_jinja_template(
        [list(messages)],
        chat_template=tokenizer.get_chat_template(),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return _Written(text=texts[0], answers=spans[0], n_untold=0)


def _told_apart(messages: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> _Written:
    """An answer is what the text gains over the one that asks the model to go on.

    A template that writes a turn otherwise once others follow it, as those that drop an earlier turn's thoughts, tells
    only its last answer that way.
    """
    text = _text(messages, tokenizer)
    answers, n_untold = [], 0
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        try:
            begin = _text(messages[:i], tokenizer, asks=True) if i else ""
            end = text if i == len(messages) - 1 else _text(messages[: i + 1], tokenizer)
        except Exception:  # it wants the turns that follow
            n_untold += 1
            continue
        if end.startswith(begin) and text.startswith(end):
            answers.append((len(begin), len(end)))
        else:
            n_untold += 1
    return _Written(text=text, answers=answers, n_untold=n_untold)


def _touched(offsets: npt.NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Which tokens, from and to characters of shape (tokens, 2), have a character of a span in them."""
    begins, ends = offsets[:, 0], offsets[:, 1]
    touched = np.zeros(len(offsets), dtype=bool)
    for begin, end in spans:
        touched |= (ends > begin) & (begins < end) & (ends > begins)
    return touched
