"""The shape of a run's data before the run: read here once, or known from the run that read it.

What is read is prepared as for a run, and its tokens are kept for it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from engine.contract.batching import is_padded, keeps_apart
from engine.contract.config import RunConfig
from engine.contract.tasks import TASKS
from engine.workloads.data_shape import MASK, POSITIONS, DataShape, full_shape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 64 * 2**20
"""Of a file that is read for a forecast: some seconds."""
MOST_WHOLE_BYTES = 16 * 2**20
"""Likewise of a file that is tokenised whole."""
_PACKED = 4
"""A packed file has about so many times its bytes in it."""
MOST_GENERATED = 50_000
"""Rows that are generated for a forecast, likewise."""
_KEPT = 64
Key = tuple[object, ...]


class NotReadError(Exception):
    """The data was not read; a clause that says why."""


class _Known:
    """Shapes by what they depend on, the ones asked for last. Any thread may ask."""

    def __init__(self) -> None:
        self._shapes: OrderedDict[Key, DataShape] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> DataShape | None:
        with self._lock:
            if key in self._shapes:
                self._shapes.move_to_end(key)
            return self._shapes.get(key)

    def put(self, key: Key, shape: DataShape) -> None:
        with self._lock:
            self._shapes[key] = shape
            while len(self._shapes) > _KEPT:
                self._shapes.popitem(last=False)


_KNOWN = _Known()
_PRINTS: WeakKeyDictionary[PreTrainedTokenizerBase, str] = WeakKeyDictionary()


def known_shape(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    reading: Callable[[], None] = lambda: None,
) -> DataShape:
    """The shape of the data that `prepare` would give for the same arguments; `reading` is told before it takes time.

    Never asks the hub. Raises `NotReadError` where finding out would take long, and `ConfigError` as `prepare` does.
    """
    if config.workload == "dummy":
        from engine.workloads.kinds.dummy import dummy_shape

        return dummy_shape(config)
    key = _key(config, tokenizer, model_vocab_size, pad_token_id)
    shape = _KNOWN.get(key)
    if shape is None:
        from engine.workloads.prepare import prepare
        from engine.workloads.tokens.token_cache import NotKeptError

        reading()
        try:
            shape = prepare(
                config,
                tokenizer=tokenizer,
                model_vocab_size=model_vocab_size,
                pad_token_id=pad_token_id,
                makes=_is_soon_read(config),
            ).shape
        except NotKeptError:
            raise NotReadError("there is much of it, and no run has read it yet") from None
        _KNOWN.put(key, shape)
    return shape


def remember(
    config: RunConfig,
    shape: DataShape,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
) -> None:
    """A run has read its data: forecasts need not."""
    if config.workload != "dummy":
        _KNOWN.put(_key(config, tokenizer, model_vocab_size, pad_token_id), shape)


def assumed_shape(config: RunConfig, *, has_tokenizer: bool, model_vocab_size: int | None) -> tuple[DataShape, str]:
    """What data that was not read is taken for, and a sentence that says so."""
    from engine.workloads.standalone.first_texts import MAX_VOCABULARY

    n_labels = 5 if config.workload == "reviews" else 2
    names = ["input_ids"]
    if is_padded(config):
        names.insert(0, MASK)
    if config.workload == "reviews":
        names.append("token_type_ids")
    if keeps_apart(config):
        names.append(POSITIONS)
    fields = (*((name, True) for name in names), *TASKS[config.task].labels)
    vocab_size = None if has_tokenizer else min(MAX_VOCABULARY, model_vocab_size or MAX_VOCABULARY)
    told = [f"every sample has the full {config.seq_len:,} tokens", f"there are {config.n_samples:,} of them"]
    if config.workload == "reviews":
        told.append(f"in {n_labels} classes")
    if vocab_size is not None:
        told.append(f"the vocabulary has {vocab_size:,} entries")
    shape = full_shape(config, fields, n_labels=n_labels, vocab_size=vocab_size, held_out=config.eval_samples)
    return shape, f"{', '.join(told[:-1])} and {told[-1]}"


def _is_soon_read(config: RunConfig) -> bool:
    """Whether making its tokens takes seconds rather than minutes. Raises `NotReadError` for the hub's."""
    from engine.workloads.files.unpacked import is_plain
    from engine.workloads.sources.source import is_file, is_generated

    data = config.data
    if is_generated(data):
        return config.n_samples + config.eval_samples <= MOST_GENERATED
    assert data is not None
    path = Path(data).expanduser()
    if not is_file(data):
        raise NotReadError("it is on the hub, and no run has read it yet")
    try:
        n_bytes = path.stat().st_size * (1 if is_plain(path) else _PACKED)
        return n_bytes <= (MOST_WHOLE_BYTES if config.samples is None else MOST_BYTES)
    except OSError:
        return True  # reading it says what is wrong


def _key(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
) -> Key:
    columns = (config.text_column, config.label_column, config.target_column)
    wanted = (config.workload, config.task, *columns, config.completion_only_loss, config.padding)
    sizes = (config.seq_len, config.target_len, config.samples, config.eval_samples, config.seed)
    return (*wanted, *sizes, config.data, _written(config.data), _print(tokenizer), model_vocab_size, pad_token_id)


def _written(data: str | None) -> tuple[int, int] | None:
    """When a file was written, and its size."""
    try:
        found = Path(data or "").expanduser().stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def _print(tokenizer: PreTrainedTokenizerBase | None) -> str | None:
    if tokenizer is None:
        return None
    if tokenizer not in _PRINTS:
        from engine.workloads.tokens.token_cache import tokenizer_fingerprint

        _PRINTS[tokenizer] = tokenizer_fingerprint(tokenizer)
    return _PRINTS[tokenizer]
