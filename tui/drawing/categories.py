"""What memory is made of, and how each part looks wherever it is drawn: one role, one fill. Pure: no Textual."""

from __future__ import annotations

from engine.contract.forecast_types import (
    ACTIVATIONS,
    CACHED,
    CONTEXT,
    GRADIENTS,
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
    ACTIVATIONS: "activations",
    TEMPORARIES: "other",
    CACHED: "cached",
}
FILLS = {CONTEXT: "·", LIBRARIES: "·", CACHED: "░"}
"""Of parts that are not tensors of the training; the others are solid."""

SHADES = {
    CONTEXT: "·",
    LIBRARIES: "•",
    WEIGHTS: "█",
    OPTIMIZER: "▓",
    GRADIENTS: "▒",
    ACTIVATIONS: "░",
    TEMPORARIES: "▚",
    CACHED: "▁",
}
"""Fills that tell the parts apart where there is no colour."""

PHASES = {"forward": "fwd", "backward": "bwd", "optimizer": "opt", "waiting": "wait"}
"""Short names of what an update does, where there is no room for the whole ones."""
