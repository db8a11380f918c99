"""peft's LoRA layers beside quantised ones, which peft itself has only where bitsandbytes is installed.

The forwards of peft/tuners/lora/bnb.py.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraConfig, LoraLayer


class _Lora(torch.nn.Module, LoraLayer):
    def __init__(
        self,
        base_layer: torch.nn.Module,
        adapter_name: str,
        config: LoraConfig,
        r: int = 0,
        lora_alpha: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        LoraLayer.__init__(self, base_layer)
        self.fan_in_fan_out = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config)

    def _with_adapters(self, x: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        for adapter in self.active_adapters:
            lora_a: Any = self.lora_A[adapter]
            lora_b = self.lora_B[adapter]
            converts = not torch.is_autocast_enabled()
            expected = result.dtype
            if converts:
                x = self._cast_input_dtype(x, lora_a.weight.dtype)
            output = lora_b(lora_a(self.lora_dropout[adapter](x))) * self.scaling[adapter]
            if converts:
                output = output.to(expected)
            result = result + output
        return result


class Lora4bit(_Lora):
    """`Linear4bit` of peft: it copies the product before it adds to it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._with_adapters(x, self.base_layer(x).clone())


class Lora8bit(_Lora):
    """`Linear8bitLt` of peft."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._with_adapters(x, self.base_layer(x))
