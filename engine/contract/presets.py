"""The models that a key offers. Standard library only."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

PRESETS: tuple[str, ...] = (
    "bert-tiny",
    "bert-mini",
    "bert-small",
    "distilbert-base-uncased",
    "bert-base-uncased",
    "bert-large-uncased",
    "gpt2-tiny",
    "gpt2",
    "llama-micro",
    "llama-mini",
    "moe-tiny",
)
"""The key goes round in these names of `engine.models.catalogue.ARCHITECTURES`, from small to large in each family."""


def model_name(model: str) -> str:
    """How a model is called wherever people read it: a folder by its last part, anything else as it is."""
    parts = PureWindowsPath(model) if "\\" in model else PurePosixPath(model)
    no_hub_name = isinstance(parts, PurePosixPath) and len(parts.parts) > 2
    is_folder = model.startswith(("/", ".", "~", "\\")) or parts.is_absolute() or no_hub_name
    return parts.name if is_folder and parts.name not in ("", "..", "~") else model
