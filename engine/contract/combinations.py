"""Knobs that cannot go together: refusals that name the fix. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.device_name import read_device
from engine.contract.knob import ConfigError

if TYPE_CHECKING:
    from engine.contract.config import RunConfig


def check_together(config: RunConfig) -> None:
    """Raise `ConfigError` where values that are good alone cannot go together."""
    for check in _CHECKS:
        check(config)


def _check_task(config: RunConfig) -> None:
    if config.workload == "reviews" and config.task != "classification":
        raise ConfigError("task", f"--task {config.task} cannot train on reviews: use --task classification.")
    if config.workload == "text" and config.task != "causal-lm":
        raise ConfigError("task", f"--task {config.task} cannot train on plain text: use --task causal-lm.")


_NO_PACKING = {
    "reviews": "--padding packed puts several texts in a row, and a classifier reads one token per row: "
    "use --padding bucketed.",
    "dummy": "--padding packed has nothing to do, as the dummy workload's samples are full: use --padding longest.",
}


def _check_padding(config: RunConfig) -> None:
    if config.padding == "packed" and config.workload != "text":
        raise ConfigError("padding", _NO_PACKING[config.workload])


def _check_device(config: RunConfig) -> None:
    if read_device(config.device).kind == "cpu" and config.vram_limit is not None:
        raise ConfigError(
            "vram_limit", "--vram-limit needs a GPU: use --device virtual:tesla-p4 (or another GPU) instead of cpu."
        )


def _check_optimizer_in_backward(config: RunConfig) -> None:
    if not config.optimizer_in_backward:
        return
    obstacles = (
        (config.gradient_accumulation_steps > 1, "the gradients of a window", "--gradient-accumulation-steps 1"),
        (config.max_grad_norm > 0, "all gradients at once for their norm", "--max-grad-norm 0"),
        (
            config.precision == "fp16",
            "all gradients at once to unscale them",
            "--precision fp32, or bf16 where the card has it",
        ),
    )
    for applies, needs, fix in obstacles:
        if applies:
            raise ConfigError(
                "optimizer_in_backward",
                f"--optimizer-in-backward frees each gradient at once, but this run needs {needs}: use {fix}.",
            )


def _check_cross_entropy(config: RunConfig) -> None:
    if config.cross_entropy == "plain":
        return
    if not config.task.endswith("-lm"):
        raise ConfigError(
            "cross_entropy",
            f"--cross-entropy {config.cross_entropy} is for a language model's loss, and --task {config.task} has a "
            "small head: use --cross-entropy plain.",
        )
    if config.torch_compile:
        raise ConfigError(
            "cross_entropy",
            f"--cross-entropy {config.cross_entropy} leaves the head's product to the loss, which --torch-compile does "
            "not follow: use --cross-entropy plain or --torch-compile off.",
        )


def _check_activation_offloading(config: RunConfig) -> None:
    if not config.activation_offloading:
        return
    if read_device(config.device).kind == "cpu":
        raise ConfigError(
            "activation_offloading",
            "--activation-offloading moves what a GPU keeps to the host, and on --device cpu it is there already: use "
            "--activation-offloading off, or --device virtual:tesla-p4 (or another GPU) to see what it would save.",
        )
    if config.torch_compile:
        raise ConfigError(
            "activation_offloading",
            "--activation-offloading moves what each operator keeps, and --torch-compile decides itself what is kept: "
            "use --activation-offloading off or --torch-compile off.",
        )


_CHECKS = (
    _check_task,
    _check_padding,
    _check_device,
    _check_optimizer_in_backward,
    _check_cross_entropy,
    _check_activation_offloading,
)
