"""An answer's text in pieces: they add up to the whole, no character is told in halves, and no token is read often."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from engine.answering.written import Written, beginning
from engine.workloads.tokens.byte_bpe import train_byte_bpe
from engine.workloads.tokens.vocabulary import train_wordpiece

TEXTS = (
    "The café at the river: 12 €, naïve — and so on, the same again and again.",
    "日本語の文章と、 emoji 👩‍👩‍👧‍👦 in between 🎉🎉, καὶ ἑλληνικά.",
    "tabs\tand\n\nlines, e\u0301 combined; don't, can't. \u202eright to left\u202c",
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_byte_bpe(["the same words again and again " * 20, "and so on"], 400)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_pieces_add_up_to_the_text(tokenizer: PreTrainedTokenizerFast, text: str, size: int) -> None:
    ids = tokenizer(text)["input_ids"]
    written = Written(tokenizer)
    pieces = [written.add(ids[i : i + size], [False] * size)[0] for i in range(0, len(ids), size)]
    assert "".join(pieces) + written.rest() == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)


def test_wordpieces_keep_their_spaces() -> None:
    tokenizer = train_wordpiece(["a river runs through the quiet villages of the north"] * 4, 120)
    ids = tokenizer("the river villages run north", add_special_tokens=False)["input_ids"]
    written = Written(tokenizer)
    told = "".join(written.add([token], [False])[0] for token in ids) + written.rest()
    assert told == tokenizer.decode(ids)


def test_any_bytes_are_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """A model that was trained little writes what is no UTF-8."""
    drawn = random.Random(5)
    ids = [drawn.randrange(len(tokenizer)) for _ in range(600)]
    written = Written(tokenizer)
    told = "".join(written.add([token], [False])[0] for token in ids) + written.rest()
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    assert told.replace("\ufffd", "") == whole.replace("\ufffd", "")


def test_accepted_guesses_have_their_place(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("the same words and so on")["input_ids"]
    written = Written(tokenizer)
    guessed = [place % 3 == 1 for place in range(len(ids))]
    text, places = written.add(ids, guessed)
    assert text == "the same words and so on"
    expected = [tokenizer.decode([token]) for token, is_guess in zip(ids, guessed, strict=True) if is_guess]
    assert [text[begin:end] for begin, end in places] == expected


def test_tokens_are_numbers_where_there_is_no_tokenizer() -> None:
    written = Written(None)
    assert written.add([7, 8], [False, True]) == ("7 8 ", ((2, 4),))
    assert written.rest() == ""
    assert beginning([7, 8], None) == "7 8"


def test_reading_costs_the_same_at_any_length(tokenizer: PreTrainedTokenizerFast) -> None:
    read: list[int] = []

    class Counting:
        def decode(self, ids: Sequence[int], **options: Any) -> str:
            read.append(len(ids))
            return str(tokenizer.decode(list(ids), **options))

    written = Written(Counting())  # type: ignore[arg-type]
    ids = tokenizer("the same words again and again " * 50)["input_ids"]
    for token in ids:
        written.add([token], [False])
    assert max(read) < 12
    assert sum(read) < 8 * len(ids)
