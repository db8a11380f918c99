"""FSDP where this PyTorch's cannot be traced: what a rank holds by rule, from the trace of one GPU alone.

A rank has its part of every weight, gradient and state. Whole are the group of weights outside layers, which stays so
from forward to backward, and two layers: the one that computes and the one that is gathered ahead (all of them where
they are kept). Beside those there are a group's buffers to gather into, which have a stream of their own, and to add
gradients up from. (torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py)
"""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.contract.config import RunConfig
from engine.contract.forecast_types import GRADIENTS, OPTIMIZER, TEMPORARIES, WEIGHTS
from engine.forecast.recording import Recording
from engine.forecast.work import Work
from engine.techniques.parallel.sharding import grouped_weights

_GATHERING = 1
"""The stream that weights are gathered in."""


class ByRule:
    """Of one model and its configuration."""

    def __init__(self, model: torch.nn.Module, config: RunConfig) -> None:
        self._ranks = config.gpus or 1
        self._keeps = not config.reshard_after_forward
        *layers, rest = grouped_weights(model)
        self._layers = [_size(layer) for layer in layers]
        self._rest = _size(rest)
        self._trained = [_size(group, only_trained=True) for group in (*layers, rest)]

    def recording(self, alone: Recording, *, accumulates: bool) -> Recording:
        """That of a rank, from that of one GPU which has all. With `accumulates` gradients stay whole."""
        divided = {WEIGHTS, OPTIMIZER} | (set() if accumulates else {GRADIENTS})
        sizes = [
            -(-size // self._ranks) if category in divided else size
            for size, category in zip(alone.sizes, alone.categories, strict=True)
        ]
        loaded = alone.marks[1][2]
        whole, gathering = len(sizes), len(sizes) + 1
        return replace(
            alone,
            sizes=[*sizes, self._whole, max([*self._layers, self._rest])],
            categories=[*alone.categories, WEIGHTS, TEMPORARIES],
            events=[*alone.events[:loaded], whole, gathering, *alone.events[loaded:]],
            marks=[alone.marks[0], *((part, phase, start + 2) for part, phase, start in alone.marks[1:])],
            streams=alone.streams | {gathering: _GATHERING},
        )

    def work(self, alone: Work) -> Work:
        """That of a rank: all of a micro-step, its part of the optimizer's step, and what it sends."""
        every = sum(self._layers) + self._rest
        again = (0, 0) if self._keeps else (len(self._layers), sum(self._layers))
        return replace(
            alone,
            step_bytes=-(-alone.step_bytes // self._ranks),
            gathers=len(self._layers) + 1 + again[0],
            gathered_bytes=every + again[1],
            forward_gathers=len(self._layers) + 1,
            forward_gathered_bytes=every,
            first_gathered_bytes=self._rest,
            scatters=sum(n > 0 for n in self._trained),
            scattered_bytes=sum(self._trained),
            last_scattered_bytes=self._trained[-1],
        )

    @property
    def _whole(self) -> int:
        """Weights, one layer's gradients and what they are added up from."""
        layer = max(self._layers, default=0)
        weights = sum(self._layers) if self._keeps else min(2 * layer, sum(self._layers))
        return self._rest + weights + 2 * max(self._trained)


def _size(parameters: list[torch.nn.Parameter], *, only_trained: bool = False) -> int:
    """Bytes."""
    return sum(p.nbytes for p in parameters if p.requires_grad or not only_trained)
