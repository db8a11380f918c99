"""A classifier's loss with weights for its classes, or with smoothed labels, in the place of the model's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from engine.contract.config import RunConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def apply(model: torch.nn.Module, config: RunConfig, weights: torch.Tensor | None) -> None:
    """Have the model's calls give the loss that the knobs ask for, in evaluations too.

    `weights`: one for every class, (classes,), where `class_weights` asks for them. They become a buffer, which goes
    where the model goes and is not saved with it.
    """
    if weights is not None or config.label_smoothing_factor:
        replace_loss(model, weights, config.label_smoothing_factor)


def mass_of(model: torch.nn.Module) -> Callable[[dict[str, torch.Tensor]], float] | None:
    """What a batch's loss is divided by, the sum of its classes' weights; None where all classes weigh the same.

    Batches may be on the host while the model is on a device.
    """
    weights = getattr(model, "class_weights", None)
    if weights is None:
        return None
    on_host = weights.cpu()
    return lambda batch: float(on_host[batch["labels"]].sum())


def balanced(classes: npt.NDArray[np.int64], n_classes: int) -> list[float]:
    """Weights by which every class counts alike: samples / (classes × samples of the class).

    Those of scikit-learn's `compute_class_weight("balanced")`; a class without samples is taken to have one.
    """
    import numpy as np

    counts = np.bincount(classes, minlength=n_classes)
    weights: list[float] = (len(classes) / (n_classes * np.maximum(counts, 1))).tolist()
    return weights


def replace_loss(model: torch.nn.Module, weights: torch.Tensor | None, smoothing: float) -> None:
    """Compute the loss of every call anew from its logits, in fp32."""
    model.register_buffer("class_weights", weights, persistent=False)

    def give_loss(module: Any, args: Any, inputs: dict[str, Any], output: Any) -> Any:
        if inputs.get("labels") is not None:
            output.loss = torch.nn.functional.cross_entropy(
                output.logits.float(), inputs["labels"], weight=module.class_weights, label_smoothing=smoothing
            )
        return output

    model.register_forward_hook(give_loss, with_kwargs=True)
