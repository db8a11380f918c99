"""What a forecast says. Standard library only: the screen imports these types before torch is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.units import to_mib

CONTEXT, LIBRARIES, WEIGHTS, GRADIENTS, OPTIMIZER = "context", "libraries", "weights", "gradients", "optimizer"
ACTIVATIONS, TEMPORARIES, INPUTS, CACHED = "activations", "temporaries", "inputs", "cached"

CATEGORIES = (CONTEXT, LIBRARIES, WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, TEMPORARIES, INPUTS, CACHED)


class ForecastError(Exception):
    """A forecast that cannot be made; one sentence with the reason and what to do instead."""
