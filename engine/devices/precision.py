"""What is computed in: autocast and, for fp16, loss scaling; and what the parameters are stored in.

Gradients and optimizer states have the type of their parameters.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.tracing.autocast import Autocast

AUTOCAST_DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES = {"fp32": torch.float32, **AUTOCAST_DTYPE}
"""What parameters can be stored in."""
AMPERE = (8, 0)
"""The compute capability from which on there are TF32 and bf16."""
_QUANTISED_FROM = {"int8": (7, 5), "nf4": (6, 0)}
"""The compute capability from which on bitsandbytes has kernels for such weights (its installation guide)."""


def refuse_types(config: RunConfig, capability: tuple[int, int], card: str) -> None:
    """Raise `ConfigError` where the card lacks a type that the run computes in or stores."""
    for knob, value in (("precision", config.precision), ("weights", config.weights)):
        if value in ("tf32", "bf16") and capability < AMPERE:
            raise ConfigError(
                knob,
                f"--{knob} {value} needs compute capability 8.0 or newer; {card} has {capability[0]}.{capability[1]}: "
                f"use --{knob} fp16 or fp32.",
            )
    oldest = _QUANTISED_FROM.get(config.weights)
    if oldest is not None and capability < oldest:
        raise ConfigError(
            "weights",
            f"--weights {config.weights} needs compute capability {oldest[0]}.{oldest[1]} or newer; {card} has "
            f"{capability[0]}.{capability[1]}: use --weights {'nf4 or ' if capability >= (6, 0) else ''}fp16.",
        )


class Precision:
    """The precision of one run. tf32 is a switch of the device, not of the model: see `engine.devices`.

    `device_type` is where the tensors are (`cuda` or `cpu`; `meta` traces what CUDA would do).
    """

    def __init__(self, name: str, device_type: str) -> None:
        self._dtype = AUTOCAST_DTYPE.get(name)
        self._device_type = device_type
        # the scaler of the Hugging Face Trainer: initial scale 2^16, doubled every 2,000 good steps
        self.scaler = torch.amp.GradScaler("cuda" if device_type == "cuda" else "cpu", enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward; autograd replays it for a checkpointed one."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device_type, dtype=self._dtype)

    def loss_scale(self) -> float | None:
        """The current loss scale; None unless fp16. Makes the host wait for the device."""
        return float(self.scaler.get_scale()) if self.scaler.is_enabled() else None


class TracedPrecision(Precision):
    """The run's precision with CUDA's autocast policy on tensors of another device."""

    def __init__(self, name: str, device_type: str = "meta") -> None:
        super().__init__(name, device_type)
        self.policy = Autocast(AUTOCAST_DTYPE[name]) if name in AUTOCAST_DTYPE else None

    def autocast(self) -> AbstractContextManager[object]:
        return self.policy.forward() if self.policy else super().autocast()
