"""How keys and values are kept: the cache that `generate` is given, its bytes, and what cannot be kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.presets import model_name
from engine.techniques.generation.settings import is_seq2seq

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

_FULL = frozenset({"full_attention"})
_WINDOWED = frozenset({"sliding_attention", "chunked_attention"})
_EMPTY = frozenset({"dummy", "linear_attention", "conv"})
"""Kinds of layers, as transformers names them, that keep nothing per token."""


def cache_for(config: RunConfig, model: PreTrainedModel, *, tokens: int, source_tokens: int = 0) -> Cache | None:
    """An empty cache for a batch, of whatever size; None where there is none, or the model makes its own.

    A static one takes its room at the first forward: `tokens` are those of the longest prompt of the run and of its
    answer, and of a seq2seq model, which has the prompt in a cache of its own, those of the answer and `source_tokens`.
    The layers keep to the model's own rules, such as a window that slides.
    """
    if config.kv_cache == "off" or _makes_its_own(model):
        return None
    from transformers import EncoderDecoderCache

    settings = model.config.get_text_config(decoder=True)
    # the last token is written and never read: generate keeps no room for it either
    cache = _one(config, settings, tokens - 1)
    return EncoderDecoderCache(cache, _one(config, settings, source_tokens)) if is_seq2seq(model) else cache


def _one(config: RunConfig, settings: Any, tokens: int) -> Cache:
    from transformers import DynamicCache, StaticCache

    if config.kv_dtype == "int8":
        from engine.techniques.generation.int8_cache import int8_cache

        return int8_cache(settings)
    if config.kv_cache == "static":
        return StaticCache(config=settings, max_cache_len=max(tokens, 1))
    return DynamicCache(config=settings)


def arguments(model: PreTrainedModel, cache: Cache | None) -> dict[str, Any]:
    """What `generate` is given of a cache that `cache_for` made."""
    if cache is None:
        return {}
    # as transformers' _prepare_cache_for_generation calls it
    return {"cache_params" if "mamba" in type(model).__name__.lower() else "past_key_values": cache}


def refuse(config: RunConfig, model: PreTrainedModel) -> None:
    """Raise `ConfigError` where this model cannot keep keys and values as configured."""
    kinds = layer_kinds(model)
    others = [kind for kind in kinds if kind not in _FULL | _WINDOWED | {"dummy"}]
    odd = "a memory of its own kind" if _makes_its_own(model) else f"layers of another kind ({', '.join(others)})"
    if config.kv_dtype == "int8" and others:
        raise ConfigError(
            "kv_dtype",
            f"--kv-dtype int8 rounds keys and values, and {model_name(config.model)} has {odd}: use --kv-dtype model.",
        )
    if config.kv_cache == "static" and (_makes_its_own(model) or set(kinds) <= _EMPTY):
        raise ConfigError(
            "kv_cache",
            f"--kv-cache static makes room for keys and values, and {model_name(config.model)} has {odd}: use "
            "--kv-cache dynamic.",
        )
    if config.prefix_cache and not keeps_all(model):
        why = odd if others else "layers that keep a window of the last tokens alone"
        raise ConfigError(
            "prefix_cache",
            f"--prefix-cache needs the keys and values of all tokens, and {model_name(config.model)} has {why}: "
            "use --prefix-cache off.",
        )


def layer_kinds(model: PreTrainedModel) -> tuple[str, ...]:
    """Of the layers that write, each once and in their order, as transformers names them."""
    from transformers.cache_utils import get_layer_types_and_kwargs

    if _makes_its_own(model):
        return ("its own",)
    kinds, _ = get_layer_types_and_kwargs(model.config.get_text_config(decoder=True))
    return tuple(dict.fromkeys(kinds))


def keeps_all(model: PreTrainedModel) -> bool:
    """Whether every layer with a memory keeps the keys and values of all tokens."""
    return set(layer_kinds(model)) <= _FULL | {"dummy"}


def _makes_its_own(model: PreTrainedModel) -> bool:
    """Whether transformers leaves the cache to the model, as it does for XLNet, Reformer or xLSTM."""
    return not model._supports_default_dynamic_cache()


Kept = tuple[torch.Tensor, ...]
"""What a layer keeps of some tokens of a sequence or a batch, each [sequences, heads, tokens, numbers]: keys and
values; in int8 each with its scales.
"""


def kept_of(layer: Any, row: int, columns: Sequence[slice]) -> Kept:
    """A copy of what a layer that keeps all tokens keeps of one sequence, of the tokens at `columns`."""
    return tuple(torch.cat([part[row : row + 1, :, each] for each in columns], dim=-2) for part in _parts(layer))


def put(layer: Any, parts: Kept) -> None:
    """Fill an empty layer with what `kept_of` took from one of its kind. It may be a view of it: it is not changed."""
    if not parts:
        return
    if type(layer).__name__ == "Int8Layer":
        layer.take_over(*parts)
        return
    keys, values = parts
    if layer.is_compileable:  # static: it has a place of its own for them
        layer.update(keys, values)
        return
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values


def _parts(layer: Any) -> Kept:
    if type(layer).__name__ == "Int8Layer":
        return tuple(part for states in layer.kept for part in (states.whole, states.scale))
    return () if layer.keys is None else (layer.keys, layer.values)


def tensors(cache: Cache | None) -> Iterator[torch.Tensor]:
    """All that a cache keeps of the tokens: keys, values, scales, states; not how many there are."""
    for layer in _layers(cache):
        yield from _kept(layer)


def _kept(layer: Any) -> Iterator[torch.Tensor]:
    for kept in vars(layer).values():  # asked of every layer while a model writes: most are tensors, or plain numbers
        if isinstance(kept, torch.Tensor):
            if kept.dim() > 1:
                yield kept
        elif not isinstance(kept, (int, torch.dtype, torch.device)):
            yield from (each for each in _flat(kept) if each.dim() > 1)


def watch(cache: Cache, told: Callable[[Iterator[torch.Tensor]], None]) -> None:
    """From now on `told` is given what a layer keeps, whenever that has grown."""
    for one in (cache.self_attention_cache, cache.cross_attention_cache) if _is_double(cache) else (cache,):
        vars(one)["update"] = _Watched(one, told)


class _Watched:
    """A cache's `update`. It holds the cache weakly: nothing is to keep that alive."""

    def __init__(self, cache: Any, told: Callable[[Iterator[torch.Tensor]], None]) -> None:
        self._cache, self._told = weakref.ref(cache), told

    def __call__(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        cache: Any = self._cache()
        result = type(cache).update(cache, key_states, value_states, layer_idx, *args, **kwargs)
        self._told(_kept(cache.layers[layer_idx]))
        return result


def _is_double(cache: Any) -> bool:
    return hasattr(cache, "cross_attention_cache")


def _layers(cache: Any) -> Iterator[Any]:
    if cache is None:
        return
    if _is_double(cache):
        yield from (*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers)
    else:
        yield from cache.layers


def _flat(kept: object) -> Iterator[torch.Tensor]:
    if isinstance(kept, torch.Tensor):
        yield kept
    elif isinstance(kept, dict):
        for each in kept.values():
            yield from _flat(each)
    elif isinstance(kept, tuple):
        for each in kept:
            yield from _flat(each)
    elif type(kept).__name__ == "Int8States":  # by its name: its file imports transformers
        yield from (kept.whole, kept.scale)  # type: ignore[attr-defined]


def kv_bytes(cache: Cache | None) -> int:
    """Bytes that a cache takes: of the memory behind its tensors, which outlasts tokens that were cut off."""
    storages = {each.untyped_storage()._cdata: each.untyped_storage() for each in tensors(cache)}
    return sum(storage.nbytes() for storage in storages.values())


def kv_bytes_per_token(settings: Any, kv_dtype: str, stored_in: torch.dtype) -> int:
    """Bytes of keys and values of one token of one sequence, as transformers keeps them.

    2 · layers · heads of keys and values · head size · bytes (Pope et al. 2022, Efficiently Scaling Transformer
    Inference, section 3.3), with the heads and sizes of each layer; of multi-head latent attention (DeepSeek-V2) the
    latent vector and the key's rotated part are kept. In int8 a byte each, and a scale in the model's type per head of
    a token, for keys and for values. A window that slides takes as much per token until it is full. A seq2seq model
    keeps as much of a token of its prompt as of its answer.
    """
    return sum(kept_per_token(settings, kv_dtype, stored_in))


def kept_per_token(settings: Any, kv_dtype: str, stored_in: torch.dtype) -> Iterator[int]:
    """The same by tensor, layer after layer."""
    from transformers.cache_utils import get_layer_types_and_kwargs

    decoder = settings.get_text_config(decoder=True)
    kinds, _ = get_layer_types_and_kwargs(decoder)
    for kind, layer in zip(kinds, decoder.per_layer_config, strict=True):
        if kind in _EMPTY:
            continue
        heads, *sizes = _shape(layer)
        for size in sizes:
            if kv_dtype == "int8":
                yield heads * size
                yield heads * stored_in.itemsize
            else:
                yield heads * size * stored_in.itemsize
        if kind == "indexed_attention":
            yield int(layer.index_head_dim * stored_in.itemsize)


def _shape(layer: Any) -> tuple[int, int, int]:
    """Heads of keys and values, and the size of a key's and a value's, of a layer's settings."""

    def known(*names: str) -> int | None:
        return next((value for name in names if isinstance(value := getattr(layer, name, None), int)), None)

    heads = known("decoder_attention_heads", "num_attention_heads", "n_head", "n_heads", "num_heads")
    width = known("hidden_size", "d_model", "n_embd")
    assert heads is not None
    if latent := known("kv_lora_rank"):
        return 1, latent, known("qk_rope_head_dim") or 0
    size = known("head_dim", "d_kv") or (width or 0) // heads
    if hasattr(layer, "multi_query"):  # Falcon, whose newer form repeats its heads before they are kept, and StarCoder
        return 1 if layer.multi_query and not getattr(layer, "new_decoder_architecture", False) else heads, size, size
    return known("num_key_value_heads") or heads, size, size
