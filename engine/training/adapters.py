"""What LoRA trained, from a folder: thin matrices, and the model that they belong on. No pickle is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.config import ConfigError
from engine.contract.text import first_line
from engine.training.saving.model_folder import BASE
from engine.training.saving.output import object_in

if TYPE_CHECKING:
    import torch

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter, which is no model alone."""
    return (folder / ADAPTER).is_file()


def base_of(adapter: Path, name: str) -> str:
    """The folder or hub name of the model that the adapter in a folder belongs on. Raises `ConfigError`."""
    base = object_in(adapter / ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ConfigError("model", f"--model {name!r}: its {ADAPTER} names no base model: correct it.")
    beside = adapter / BASE
    if not Path(base).is_dir() and (beside / "config.json").is_file():
        return str(beside)  # the folder was moved
    return base


def on(model: torch.nn.Module, adapter: Path, name: str) -> torch.nn.Module:
    """The model with the adapter of a folder on it. Raises `ConfigError` where it cannot be put there."""
    try:
        from peft import PeftModel
    except ImportError:
        raise ConfigError(
            "model", f"--model {name!r} is an adapter, which needs the package peft: pip install 'traintop[lora]'."
        ) from None
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise ConfigError("model", f"--model {name!r} has no {ADAPTER_WEIGHTS}, and pickled weights are not read.")
    try:
        adapted: torch.nn.Module = PeftModel.from_pretrained(model, str(adapter), use_safetensors=True)
    except Exception as error:  # peft and torch raise anything over weights that do not fit
        reason = first_line(error)[:200]
        raise ConfigError(
            "model", f"--model {name!r}: the adapter does not fit its base ({reason}): get its files again."
        ) from None
    return adapted
