"""An answer's text as it comes: each token is read about once, and no character is told before it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers make of bytes that are not a whole character yet."""
_LONGEST = 4
"""Tokens of a character, which has four bytes at most: as many that still are none will not become one."""
_MOST = 500
"""Characters of an answer or prompt that are told in one piece."""


class Written:
    """The text of one answer, told in pieces that add up to it.

    As vLLM and text-generation-inference do it: the piece before is decoded with and without the new tokens, as whether
    a space stands before a word depends on what came before it, and the difference is new. Without a tokenizer the
    numbers of the tokens stand for them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        """The last piece that was told, and what is not told yet."""
        self._told = 0
        """Of them are told."""

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
        whole, end = self._whole(last=last)
        if end == self._told:
            return ""
        before = self._decode(self._ids[: self._told])
        self._ids = self._ids[self._told :]
        self._told = end - self._told
        return whole[len(before) :]

    def _whole(self, *, last: bool) -> tuple[str, int]:
        """The text up to the last whole character, and the tokens up to there."""
        n = len(self._ids)
        for held_back in range(0 if last else min(n - self._told, _LONGEST)):
            text = self._decode(self._ids[: n - held_back])
            if not text.endswith(_INCOMPLETE):
                return text, n - held_back
        if last:
            return self._decode(self._ids), n
        if n - self._told < _LONGEST:
            return "", self._told
        end = n - _LONGEST + 1  # what stands there begins no character, but what follows it may
        return self._decode(self._ids[:end]), end

    def _decode(self, ids: list[int]) -> str:
        assert self._tokenizer is not None
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def beginning(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase | None) -> str:
    """An answer's beginning as one text."""
    if tokenizer is None:
        return " ".join(map(str, ids))[:_MOST]
    # a token is a character at the least, but for special ones, of which no answer is full
    return str(tokenizer.decode(list(ids)[:_MOST], skip_special_tokens=True))[:_MOST]
