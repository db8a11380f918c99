"""The layers of a model, and the model with fewer of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

_MOST_APART = 3
"""Layers at the begin that may be unlike the others: T5's first ones know positions, those of some mixtures are dense.
"""
_PLAIN = (bool, int, float, str, torch.dtype, type(None))

_About = dict[tuple[str, str], object]
"""Of a layer, by the path of a module in it and the name of one of its attributes."""


class LayerList(NamedTuple):
    """A list of layers in a model: whose it is, by what name."""

    owner: nn.Module
    name: str
    layers: nn.ModuleList


def layer_lists(model: nn.Module) -> Iterator[LayerList]:
    """The outermost lists of layers."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield LayerList(model, name, child)
        else:
            yield from layer_lists(child)


@contextmanager
def cut(lists: Sequence[LayerList], depth: int) -> Iterator[None]:
    """The model with the first `depth` layers of its lists only."""
    try:
        for owner, name, layers in lists:
            owner._modules[name] = nn.ModuleList(layers[:depth])
        yield
    finally:
        for owner, name, layers in lists:
            owner._modules[name] = layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The longest lists of a model: one, or an encoder's and a decoder's."""

    lists: tuple[LayerList, ...]
    depths: tuple[int, int, int]
    """Evenly spaced, and so few that the whole is told from them with less work than it would be itself.

    A model cut to one of them ends in the same layers.
    """
    steps: int
    """From the first depth to the whole."""


def find_layers(model: nn.Module, config: Any) -> Layers | None:
    """The layers of a model with this configuration; None where they differ, or are too few to leave some out.

    After some layers at the begin each has to be like the one a period before it, as far as its modules, their
    tensors and settings, and what the configuration lists by layer can say.
    """
    found = list(layer_lists(model))
    whole = max((len(layers) for _, _, layers in found), default=0)
    longest = tuple(each for each in found if len(each.layers) == whole)
    listed = [values for values in vars(config).values() if isinstance(values, (list, tuple)) and len(values) == whole]
    abouts = [_without_places([_about(layer) for layer in layers]) for _, _, layers in longest]
    layers = list(zip(*abouts, *listed, strict=True))
    for period in range(1, whole // 3):
        for apart in range(_MOST_APART + 1):
            least = apart + 2 * period
            least += (whole - least) % period
            depths = least, least + period, least + 2 * period
            if sum(depths) < whole and layers[apart + period :] == layers[apart:-period]:
                return Layers(lists=longest, depths=depths, steps=(whole - least) // period)
    return None


def _about(layer: nn.Module) -> _About:
    """What shapes the work of a layer: its modules, with their tensors and plain settings."""
    about: _About = {}
    for path, module in layer.named_modules():
        about[path, ""] = type(module)
        for name, held in (*module._parameters.items(), *module._buffers.items()):
            about[path, name] = None if held is None else _shape(held)
        about.update({(path, name): value for name, value in vars(module).items() if _is_plain(value)})
    return about


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, (list, tuple)) and all(map(_is_plain, value)))


def _shape(tensor: torch.Tensor) -> tuple[object, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.requires_grad


def _without_places(layers: list[_About]) -> list[_About]:
    """Without the settings that only count the layers."""
    counts = {key for key in layers[0] if all(each.get(key, -1) == index for index, each in enumerate(layers))}
    return [{key: value for key, value in each.items() if key not in counts} for each in layers]
