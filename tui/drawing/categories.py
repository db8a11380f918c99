"""What memory is made of, and how each part looks wherever it is drawn: one role, one fill. Pure: no Textual."""

from __future__ import annotations

from engine.contract.forecast_types import (
    ACTIVATIONS,
    CACHED,
    CONTEXT,
    GRADIENTS,
    KV_CACHE,
    LIBRARIES,
    OPTIMIZER,
    TEMPORARIES,
    WEIGHTS,
)

ROLES = {
    CONTEXT: "context",
    LIBRARIES: "context",
    WEIGHTS: "weights",
    GRADIENTS: "gradients",
    OPTIMIZER: "optimizer",
    KV_CACHE: "kv",
    ACTIVATIONS: "activations",
    TEMPORARIES: "other",
    CACHED: "cached",
}
NAMES = {KV_CACHE: "KV cache"}
"""How a part is called where it is not by its name."""
FILLS = {CONTEXT: "·", LIBRARIES: "·", CACHED: "░"}
"""Of parts that are not tensors of the training; the others are solid."""

SHADES = {
    CONTEXT: "·",
    LIBRARIES: "•",
    WEIGHTS: "█",
    OPTIMIZER: "▓",
    GRADIENTS: "▒",
    KV_CACHE: "▞",
    ACTIVATIONS: "░",
    TEMPORARIES: "▚",
    CACHED: "▁",
}
"""Fills that tell the parts apart where there is no colour."""

PHASES = {
    "forward": "fwd",
    "backward": "bwd",
    "optimizer": "opt",
    "waiting": "wait",
    "prefill": "pre",
    "decode": "dec",
    "sampling": "smpl",
}
"""Short names of what a run does, where there is no room for the whole ones."""
