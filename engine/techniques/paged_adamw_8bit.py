"""AdamW with its states in 8 bits and in unified memory, by bitsandbytes. Imported only when a run asks for it."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.optim import PagedAdamW8bit

from engine.techniques.decay import Group
from engine.tracing.unified import state_buffer


class PagedAdamW(PagedAdamW8bit):  # type: ignore[misc, unused-ignore]
    """The library's; on a CPU, where it has nothing to page, its states are made as they are on a GPU."""

    name2qmap: dict[str, torch.Tensor]
    _has_codes = False

    def init_state(self, group: Any, p: Any, gindex: int, pindex: int) -> None:
        """The states of one parameter; the first ones bring a copy of their codes to the device."""
        if p.device.type == "cpu" and not self._has_codes and p.numel() >= self.args.min_8bit_size:
            self._has_codes = True
            self.name2qmap = {name: code.clone() for name, code in self.name2qmap.items()}
        super().init_state(group, p, gindex, pindex)

    def get_state_buffer(self, p: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """One state of a parameter, zeros."""
        if p.device.type == "cpu":
            return state_buffer(p, dtype)
        state: torch.Tensor = super().get_state_buffer(p, dtype)
        return state


def build(groups: list[Group], learning_rate: float) -> PagedAdamW:
    """β 0.9/0.999, eps 1e-8, weight decay where a group has it; blocks of 256 values, fp32 in tensors under 4,096."""
    return PagedAdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
