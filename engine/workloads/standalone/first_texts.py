"""How much of a text a vocabulary is trained on."""

from __future__ import annotations

from collections.abc import Sequence

MAX_VOCABULARY = 8_192
MAX_TRAINED_ON = 20_000
"""Texts that a vocabulary is trained on, and no more of them than have `MAX_CHARACTERS` together: about 2 s."""
MAX_CHARACTERS = 4_000_000
MAX_CHARACTERS_OF_ONE = 50_000


def first_texts(texts: Sequence[str]) -> list[str]:
    """As many of the texts, and as much of each, as a vocabulary is trained on."""
    room = MAX_CHARACTERS
    first: list[str] = []
    for text in texts[:MAX_TRAINED_ON]:
        if room <= 0:
            break
        first.append(text[:MAX_CHARACTERS_OF_ONE])
        room -= len(first[-1])
    return first
