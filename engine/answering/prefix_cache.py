"""Keys and values of what prompts begin with in common: computed once, and taken over by the prompts after.

The prompts that wait are known, so that the first of those that share a beginning leaves it behind for the others. A
prefix is kept once, whatever the batch: each row of a batch begins with it, padding stands between it and the rest, and
positions are counted without the padding. Of a batch all rows go on from the same column: what its shortest prefix has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from engine.contract.answering_knobs import LEAST_PREFIX
from engine.techniques.generation import caches

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

Ids = tuple[int, ...]

MOST = 8
"""Prefixes that are kept; of more, those that were used last."""
_BY_COLUMN = frozenset({"mpt", "gpt_neo"})
"""Models that tell how far apart two tokens are by their columns, padding among them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """What some prompts begin with."""

    ids: Ids
    layers: tuple[caches.Kept, ...]
    """Of one sequence, by layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the prompts of a batch go on from."""

    n_tokens: int = 0
    """Of each."""
    rows: tuple[Prefix, ...] = ()
    """Whose keys and values each has; none without one."""


class PrefixCache:
    """The prefixes of a run."""

    def __init__(self, prompts: Iterable[Ids], model: PreTrainedModel) -> None:
        self._worth = _shared_lengths(list(prompts))
        self._settings = model.config.get_text_config(decoder=True)
        self._kept: list[Prefix] = []
        """The one that was used last at the end."""

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return sum(part.nbytes for prefix in self._kept for layer in prefix.layers for part in layer)

    def find(self, prompts: Sequence[Ids]) -> Shared:
        """What all of these can go on from; at least one token of each is left to compute."""
        rows, lengths = [], []
        for ids in prompts:
            prefix, n = self._longest(ids)
            if prefix is None or n < LEAST_PREFIX:
                return Shared()
            rows.append(prefix)
            lengths.append(n)
        n = min(lengths)
        is_ragged = len({len(ids) for ids in prompts}) > 1
        if is_ragged and self._settings.model_type in _BY_COLUMN:
            return Shared()
        self._kept = [*(each for each in self._kept if each not in rows), *dict.fromkeys(rows)]
        return Shared(n_tokens=n, rows=tuple(rows))

    def _longest(self, ids: Ids) -> tuple[Prefix | None, int]:
        best, most = None, 0
        for prefix in self._kept:
            n = min(_common(prefix.ids, ids), len(ids) - 1)
            if n > most:
                best, most = prefix, n
        return best, most

    def keep(self, prompts: Sequence[Ids], cache: Cache, shared: Shared) -> list[torch.Tensor]:
        """Keep what these, which were just answered with `cache`, have in common with others, where that is new.

        Returns what is kept of them now.
        """
        widest = max(len(ids) for ids in prompts)
        new: list[torch.Tensor] = []
        for row, ids in enumerate(prompts):
            n = self._new(ids)
            if not n:
                continue
            columns = _columns(shared.n_tokens, widest - len(ids), n)
            layers = tuple(caches.kept_of(layer, row, columns) for layer in cache.layers)
            # a longer one has what a shorter one has
            self._kept = [each for each in self._kept if each.ids != ids[: len(each.ids)]]
            self._kept.append(Prefix(ids=ids[:n], layers=layers))
            del self._kept[:-MOST]
            new += [part for layer in layers for part in layer]
        return new

    def is_new(self, prompts: Iterable[Ids]) -> bool:
        """Whether something of these will be kept."""
        return any(map(self._new, prompts))

    def _new(self, ids: Ids) -> int:
        """First tokens of a prompt that are to be kept, and are not yet."""
        n = self._worth.get(ids, 0)
        return 0 if n < LEAST_PREFIX or self._longest(ids)[1] >= n else n


def fill(cache: Cache, shared: Shared) -> None:
    """Put the keys and values that a batch goes on from into its empty cache."""
    for number, layer in enumerate(cache.layers):
        first = shared.rows[0]
        parts = []
        for i, part in enumerate(first.layers[number]):
            if all(row is first for row in shared.rows):  # views of one: the first forward copies them anyway
                parts.append(part[..., : shared.n_tokens, :].expand(len(shared.rows), -1, -1, -1))
            else:
                parts.append(torch.cat([row.layers[number][i][..., : shared.n_tokens, :] for row in shared.rows]))
        caches.put(layer, tuple(parts))


def _columns(shared: int, padding: int, n: int) -> list[slice]:
    """Where in a row of a batch its first `n` tokens are."""
    if n <= shared or not padding:
        return [slice(0, n)]
    return [slice(0, shared), slice(shared + padding, padding + n)] if shared else [slice(padding, padding + n)]


def _shared_lengths(prompts: Sequence[Ids]) -> dict[Ids, int]:
    """Of each prompt, how many of its first tokens the likest other one has too, all but its last at most."""
    # what two prompts have in common they have in common with all that are sorted between them
    ordered = sorted(prompts)
    found: dict[Ids, int] = {}
    for one, next_one in pairwise(ordered):
        n = _common(one, next_one)
        for ids in (one, next_one):
            found[ids] = max(found.get(ids, 0), min(n, len(ids) - 1))
    return found


def _common(one: Ids, other: Ids) -> int:
    """How many first tokens two have in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
