"""What is known of an architecture without a network. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BASE, PRETRAINING, MASKED, CAUSAL, SEQ2SEQ, CLASSES = (
    "base",
    "pretraining",
    "masked-lm",
    "causal-lm",
    "seq2seq-lm",
    "classification",
)
"""What a published checkpoint has on top of its encoder or decoder; `CLASSES` is a head for two of them."""

METADATA = "safetensors metadata of the hub repository"
"""Where most counts are published: "Model size" of a model's page. Buffers that a file also holds (positions, causal
masks) are no parameters and not counted, nor is a tied output layer that a file holds once more."""
CARD = "model card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A named architecture and the hub repository that holds its weights, if there is one."""

    hub_name: str | None
    model_type: str
    """The transformers architecture: the `model_type` of config.json."""
    settings: dict[str, Any]
    """The fields of config.json that differ from that architecture's default configuration."""
    head: str = CAUSAL
    """What the published checkpoint holds: `n_parameters` counts it."""
    n_parameters: int | None = None
    """As published, exact; None where nobody has published it to the last one."""
    source: str = METADATA
    """Of `n_parameters`."""
    gated: bool = False
    """Whether the hub asks for an account that has accepted the licence."""
    own_output: bool = False
    """Whether its weights hold an output layer of their own where transformers, given the config.json alone, ties it to
    the embedding: it unties the two when it finds them to differ (`PreTrainedModel.tie_weights`)."""
    also: tuple[str, ...] = ()
    """Hub repositories of the same shape: those tuned for instructions, mirrors, earlier names."""
