"""What a rank holds of a tensor that is divided among ranks."""

from __future__ import annotations

import torch


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's; of a tensor that is not divided, all of it."""
    part: torch.Tensor | None = getattr(tensor, "to_local", lambda: None)()  # to import `DTensor` takes half a second
    return tensor if part is None else part
