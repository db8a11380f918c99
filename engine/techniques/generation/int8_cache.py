"""Keys and values in int8: a byte each, and a scale per token and head.

transformers' own quantised caches need a package (hqq), know 2 and 4 bits alone (quanto), keep one scale for a whole
layer (fp8), and none of them can give back what a rejected guess left. Scales per token and head are what vLLM calls
`per_token_head`: as a token is quantised once, when it comes, what is kept is never rounded twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_LARGEST = 127
"""Of int8, symmetric."""


@dataclass(frozen=True, slots=True)
class Int8States:
    """Keys or values of a layer."""

    whole: torch.Tensor
    """int8, [batch, heads, tokens, head size]."""
    scale: torch.Tensor
    """In the model's type, [batch, heads, tokens, 1]."""

    @classmethod
    def of(cls, states: torch.Tensor) -> Int8States:
        """Rounded to the nearest of 255 steps, as wide as a token's largest value in a head needs them."""
        largest = torch.linalg.vector_norm(states, float("inf"), dim=-1, keepdim=True, dtype=torch.float32)
        # rounded first to the type that it is kept in: then what is read is scaled by what was divided by
        scale = (largest / _LARGEST).to(states.dtype).clamp_(min=torch.finfo(states.dtype).tiny)
        return cls(whole=(states / scale.float()).round_().to(torch.int8), scale=scale)

    def and_(self, more: Int8States) -> Int8States:
        """With the tokens of `more` after them."""
        return Int8States(torch.cat([self.whole, more.whole], dim=-2), torch.cat([self.scale, more.scale], dim=-2))

    def read_before(self, states: torch.Tensor) -> torch.Tensor:
        """As attention reads them, in the model's type, with `states` after them, which are not rounded."""
        n = self.whole.size(-2)
        shape = (*states.shape[:-2], n + states.size(-2), states.size(-1))
        out = torch.empty(shape, dtype=states.dtype, device=states.device)
        torch.mul(self.whole, self.scale, out=out[..., :n, :])
        out[..., n:, :] = states
        return out

    def tokens(self, begin: int | None, end: int | None) -> Int8States:
        """Those from `begin` to `end`, counted as slices are."""
        return Int8States(self.whole[..., begin:end, :], self.scale[..., begin:end, :])

    def rows(self, index: torch.Tensor) -> Int8States:
        """Those of the sequences of `index`."""
        index = index.to(self.whole.device)
        return Int8States(self.whole.index_select(0, index), self.scale.index_select(0, index))


class Int8Layer(DynamicLayer):  # type: ignore[misc]
    """transformers' `DynamicLayer`, kept in int8. `keys` and `values` stay empty."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: tuple[Int8States, Int8States] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Know the type and the device; nothing is kept yet."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep these, and give all: those that came before as they are kept, these as they came."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.kept is None:
            self.kept = Int8States.of(key_states), Int8States.of(value_states)
            return key_states, value_states
        keys, values = self.kept
        read = keys.read_before(key_states), values.read_before(value_states)
        self.kept = keys.and_(Int8States.of(key_states)), values.and_(Int8States.of(value_states))
        return read

    def take_over(self, keys: torch.Tensor, scale: torch.Tensor, values: torch.Tensor, by: torch.Tensor) -> None:
        """Begin with what another one kept: keys with their scale, values with theirs."""
        self.dtype, self.device, self.is_initialized = scale.dtype, scale.device, True
        self.kept = Int8States(keys, scale), Int8States(values, by)

    def get_seq_length(self) -> int:
        """Tokens that are kept."""
        return 0 if self.kept is None else self.kept[0].whole.size(-2)

    def crop(self, tokens_to_remove: int) -> None:
        """Give back the last tokens; `tokens_to_remove` is theirs as transformers counts, negative."""
        if tokens_to_remove and self.kept is not None:
            keys, values = self.kept
            self.kept = keys.tokens(None, tokens_to_remove), values.tokens(None, tokens_to_remove)

    def reset(self) -> None:
        """Keep nothing."""
        self.kept, self.is_initialized = None, False

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these sequences alone."""
        if self.kept is not None:
            keys, values = self.kept
            self.kept = keys.rows(beam_idx), values.rows(beam_idx)


class Int8SlidingLayer(DynamicSlidingWindowLayer):  # type: ignore[misc]
    """transformers' `DynamicSlidingWindowLayer`, kept in int8. `keys` and `values` stay empty."""

    def __init__(self, sliding_window: int, **kwargs: Any) -> None:
        super().__init__(sliding_window=sliding_window, **kwargs)
        self.kept: tuple[Int8States, Int8States] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Know the type and the device; nothing is kept yet."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the window's, and give all that these may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n = key_states.size(-2)
        self.cumulative_length += n
        new = Int8States.of(key_states), Int8States.of(value_states)
        if self.kept is None:
            read, self.kept = (key_states, value_states), new
        else:
            keys, values = self.kept
            read = keys.read_before(key_states), values.read_before(value_states)
            self.kept = keys.and_(new[0]), values.and_(new[1])
        if not self.record_past:
            self._keep(1 - self.sliding_window, None)
            return read
        # tokens that may be given back are kept beyond the window, and not looked at
        seen = self.sliding_window - 1 + n
        return read[0][..., -seen:, :], read[1][..., -seen:, :]

    def crop(self, tokens_to_remove: int) -> None:
        """Give back the last tokens, as transformers counts, negative, and what is beyond the window."""
        if self.kept is None:
            return
        self.cumulative_length += tokens_to_remove
        self._keep(None, tokens_to_remove or None)
        self._keep(1 - self.sliding_window, None)

    def _keep(self, begin: int | None, end: int | None) -> None:
        if self.kept is not None:
            keys, values = self.kept
            self.kept = keys.tokens(begin, end), values.tokens(begin, end)

    def reset(self) -> None:
        """Keep nothing."""
        self.kept, self.is_initialized, self.cumulative_length = None, False, 0

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these sequences alone."""
        if self.kept is not None:
            keys, values = self.kept
            self.kept = keys.rows(beam_idx), values.rows(beam_idx)


def int8_cache(settings: Any) -> DynamicCache:
    """A cache that grows, in int8, of a model's settings. All its layers are of the two kinds: see `caches.refuse`."""
    cache = DynamicCache(config=settings)
    cache.layers = [
        Int8SlidingLayer(layer.sliding_window) if type(layer) is DynamicSlidingWindowLayer else Int8Layer()
        for layer in cache.layers
    ]
    return cache
