"""A model that is divided among ranks for one trace, and whole again for the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Put the modules back in the end: their classes, weights, hooks and whatever else was added to them.

    Handles of hooks that were there before stay good.
    """
    modules = list(model.modules())
    were = [(type(module), {name: _kept(value) for name, value in vars(module).items()}) for module in modules]
    try:
        yield
    finally:
        for module, (kind, held) in zip(modules, were, strict=True):
            module.__class__ = kind
            vars(module).clear()
            vars(module).update({name: _put_back(value) for name, value in held.items()})


def _kept(value: object) -> object:
    return (value, dict(value)) if isinstance(value, dict) else (value, None)


def _put_back(kept: Any) -> object:
    value, content = kept
    if content is not None:
        value.clear()
        value.update(content)
    return value
