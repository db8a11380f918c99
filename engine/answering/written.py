"""An answer's text as it comes: each token is read about once, and no character is told before it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers make of bytes that are not a whole character yet."""
_PATIENCE = 8
"""Tokens after which what still is no character will not become one: a character has four bytes at most."""
_BEFORE = 6
"""Tokens read again with what follows them: whether a space stands before a word depends on what came before."""
_MOST = 500
"""Characters of an answer or prompt that are told in one piece."""


class Written:
    """The text of one answer, told in pieces that add up to it.

    As vLLM and text-generation-inference do it: a few tokens before the new ones are decoded with and without them, and
    the difference is new. Without a tokenizer the numbers of the tokens stand for them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._from = self._told = 0
        """Tokens before these are read no more, and are told."""

    def add(self, ids: Sequence[int], guessed: Sequence[bool]) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The text that these tokens add, and where in it those stand that are `guessed`: from, to."""
        text, places = "", []
        begin = 0
        while begin < len(ids):
            end = begin + 1
            while end < len(ids) and guessed[end] == guessed[begin]:
                end += 1
            piece = self._next(ids[begin:end], last=False)
            if piece and guessed[begin]:
                places.append((len(text), len(text) + len(piece)))
            text += piece
            begin = end
        return text, tuple(places)

    def rest(self) -> str:
        """What was held back as it was no whole character."""
        return self._next((), last=True)

    def _next(self, ids: Sequence[int], *, last: bool) -> str:
        if self._tokenizer is None:
            return "".join(f"{token} " for token in ids)
        self._ids += ids
        if self._told == len(self._ids):
            return ""
        before = self._decode(self._ids[self._from : self._told])
        whole = self._decode(self._ids[self._from :])
        is_stuck = len(self._ids) - self._told > _PATIENCE
        if whole.endswith(_INCOMPLETE) and not is_stuck and not last:
            return ""
        self._from, self._told = max(self._from, len(self._ids) - _BEFORE), len(self._ids)
        return whole[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        assert self._tokenizer is not None
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def beginning(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase | None) -> str:
    """An answer's beginning as one text."""
    if tokenizer is None:
        return " ".join(map(str, ids))[:_MOST]
    # a token is a character at the least, but for special ones, of which no answer is full
    return str(tokenizer.decode(list(ids)[:_MOST], skip_special_tokens=True))[:_MOST]
