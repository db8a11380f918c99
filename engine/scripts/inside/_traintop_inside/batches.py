"""How many samples and tokens are in what a loader hands out or a model is called with."""

import weakref
from collections import deque
from collections.abc import Mapping
from itertools import islice

_AHEAD = 1024
"""Batches that a loop may fetch before it trains on the first of them, as some do with all of an update."""
_MOST_PARTS = 64
"""Of a list that are looked at."""
_UNKNOWN = (None, None)


class Batches:
    """What was fetched and not trained on yet, by the iterator that it came from."""

    def __init__(self):
        self._waiting = weakref.WeakKeyDictionary()
        self._last = None

    def asked(self, iterator):
        """The next batch is asked for. Whether it is the first time of this iterator."""
        waiting = self._waiting.get(iterator)
        is_new = waiting is None
        if is_new:
            waiting = self._waiting[iterator] = deque(maxlen=_AHEAD)
        self._last = waiting  # an iterator at its end is asked, too, before its last batch is used
        return is_new

    @property
    def are_waiting(self):
        """Whether one is there that was not taken."""
        return bool(self._last)

    def fetched(self, size):
        """Here it is."""
        self._last.append(size)

    def take(self):
        """Of the oldest that came from the iterator that was asked last."""
        try:
            return self._last.popleft()
        except (AttributeError, IndexError):  # none was, or another thread was faster
            return _UNKNOWN


def size_of(torch, batch):
    """Samples and tokens of a batch; None each where it does not tell.

    Samples are what all its tensors have as their first dimension, or all its lists as their length; `input_ids`, where
    there are, have the last word. Tokens are the whole numbers of the first tensor, where that has two dimensions; of
    several texts, as `anchor_input_ids` and `positive_input_ids`, those of all of them.
    """
    if isinstance(batch, torch.Tensor):
        return _size_of_first(batch.shape, batch)
    is_mapping = type(batch) not in (list, tuple) and isinstance(batch, Mapping)
    if is_mapping and isinstance(batch.get("input_ids"), torch.Tensor):
        return size_of(torch, batch["input_ids"])
    texts = list(islice(_texts(torch, batch), _MOST_PARTS)) if is_mapping else []
    if len(texts) > 1 and len({each.shape[0] for each in texts}) == 1:
        return texts[0].shape[0], sum(each.numel() for each in texts)
    first, samples = None, None
    for each in _tensors(torch, batch, 3):
        shape = each.shape
        if not shape:
            continue
        if first is None:
            first, samples = each, shape[0]
        elif shape[0] != samples:
            return _length(torch, batch.values() if is_mapping else batch), None
    return _UNKNOWN if first is None else _size_of_first(first.shape, first)


def _texts(torch, batch):
    for name, each in batch.items():
        if str(name).endswith("_input_ids") and isinstance(each, torch.Tensor) and each.dim() == 2:
            yield each


def _size_of_first(shape, tensor):
    if not shape:
        return _UNKNOWN
    has_tokens = len(shape) == 2 and not tensor.is_floating_point() and not tensor.is_complex()
    return shape[0], shape[0] * shape[1] if has_tokens else None


def _length(torch, items):
    """Of parts that are as long as each other, as where samples differ in their shapes; else None."""
    lengths = set()
    for each in islice(items, _MOST_PARTS):
        if isinstance(each, torch.Tensor):
            lengths.add(each.shape[0] if each.dim() else None)
        elif isinstance(each, (list, tuple)):
            lengths.add(len(each))
    return lengths.pop() if len(lengths) == 1 else None


def _tensors(torch, value, depth):
    """In what it is made of, to a depth."""
    if type(value) not in (list, tuple) and isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    found = []
    for each in islice(value, _MOST_PARTS):
        if isinstance(each, torch.Tensor):
            found.append(each)
        elif depth and not isinstance(each, (str, int, float)):
            found += _tensors(torch, each, depth - 1)
    return found
