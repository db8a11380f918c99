"""Whose loop trains: what it holds of a step decides more memory than many a knob."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How a training's own code goes from step to step."""

    name: str
    description: str = ""
    """A sentence for who reads the forecast."""
    holds_outputs: bool = False
    """What the model returned, its logits too, stays until the next forward has returned."""
    forgets_late: bool = False
    """`optimizer.zero_grad()` comes between forward and backward, so that gradients live through the forward."""


LOOPS = {
    loop.name: loop
    for loop in (
        # transformers' Trainer and this project's own: the loss alone leaves the forward's function
        Loop(name="trainer"),
        # `outputs = model(**batch); outputs.loss.backward(); …; optimizer.zero_grad()`: examples of many a library
        Loop(
            name="script",
            description="The loop is a script's: the model's outputs stay until it has the next ones.",
            holds_outputs=True,
        ),
        # `outputs = model(**batch); optimizer.zero_grad(); loss.backward(); optimizer.step()`: PyTorch's tutorials
        Loop(
            name="tutorial",
            description="The loop is that of PyTorch's tutorials: outputs and gradients stay through the next forward.",
            holds_outputs=True,
            forgets_late=True,
        ),
    )
}
"""By the name for `--loop`."""
