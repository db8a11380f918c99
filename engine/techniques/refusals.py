"""What a run cannot do on its device or with the packages that are installed, said before anything is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from engine.contract.config import ConfigError, RunConfig
from engine.techniques import attention, compiling

if TYPE_CHECKING:
    from engine.devices.base import Device


def refuse(config: RunConfig, device: Device) -> None:
    """Raise `ConfigError`, naming the fix, for what is known before model and data are."""
    refuse_missing_packages(config)
    compiling.refuse(config, device)
    attention.refuse(config, device)


def missing_package(config: RunConfig) -> str | None:
    """Which package the run wants for, and how to get it; None where all are there."""
    try:
        refuse_missing_packages(config)
    except ConfigError as error:
        return error.message
    return None


def refuse_missing_packages(config: RunConfig) -> None:
    """Raise `ConfigError` where the run, and so its forecast, needs an extra that is not installed."""
    if config.lora_rank > 0 and find_spec("peft") is None:
        raise ConfigError(
            "lora_rank", "--lora-rank needs the package peft: pip install 'traintop[lora]', or use --lora-rank 0."
        )
    if config.optimizer == "adamw-8bit" and find_spec("torchao") is None:
        raise ConfigError(
            "optimizer",
            "--optimizer adamw-8bit needs the package torchao: pip install 'traintop[optim8bit]', "
            "or use --optimizer adamw.",
        )
