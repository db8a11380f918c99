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
    _refuse_missing_library(config)
    compiling.refuse(config, device)
    attention.refuse(config, device)
    _refuse_cross_entropy(config, device.info.kind)


def missing_package(config: RunConfig) -> str | None:
    """Which package the run wants for, and how to get it; None where all are there."""
    try:
        refuse_missing_packages(config)
        _refuse_missing_library(config)
    except ConfigError as error:
        return error.message
    return None


def _refuse_missing_library(config: RunConfig) -> None:
    """A forecast needs bitsandbytes for nothing; a run for its quantised weights and its optimizer."""
    missing = [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if config.is_quantised and missing:
        raise ConfigError(
            "weights",
            f"--weights {config.weights} needs the package {' and '.join(missing)}: pip install 'traintop[quantised]', "
            "or use --weights bf16.",
        )
    if config.optimizer == "paged-adamw-8bit" and "bitsandbytes" in missing:
        raise ConfigError(
            "optimizer",
            "--optimizer paged-adamw-8bit needs the package bitsandbytes: pip install 'traintop[quantised]', "
            "or use --optimizer adamw.",
        )


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


def _refuse_cross_entropy(config: RunConfig, kind: str) -> None:
    """On a virtual GPU Liger's kernel is accounted for, and need not be there."""
    if config.cross_entropy == "chunked":
        import torch

        if not hasattr(torch.nn.functional, "linear_cross_entropy"):
            raise ConfigError(
                "cross_entropy",
                f"--cross-entropy chunked needs PyTorch 2.13 or newer, and this is {torch.__version__}: "
                "pip install -U torch, or use --cross-entropy plain.",
            )
    elif config.cross_entropy == "liger" and kind == "cpu":
        raise ConfigError(
            "cross_entropy",
            "--cross-entropy liger has kernels for GPUs only: use --cross-entropy chunked, or --device virtual:GPU to "
            "see what it would hold.",
        )
    elif config.cross_entropy == "liger" and kind == "cuda" and find_spec("liger_kernel") is None:
        raise ConfigError(
            "cross_entropy",
            "--cross-entropy liger needs the package liger-kernel: pip install 'traintop[liger]', "
            "or use --cross-entropy chunked.",
        )
