"""AdamW with its two states in 8 bits. Imported only when a run asks for it: torchao takes seconds."""

from __future__ import annotations

from collections.abc import Callable

from torchao.optim import AdamW8bit

from engine.process import gate
from engine.techniques.decay import Group

NOTE = (
    "8-bit AdamW is slow on a CPU: updates of small models take 10 to 20 times as long. "
    "--torch-compile on speeds it up after a long first update, --optimizer adamw is fast at once."
)


class EagerAdamW8bit(AdamW8bit):  # type: ignore[misc, unused-ignore]
    """torchao's AdamW8bit, without compiling its step, which is written to be compiled once per shape of parameter.

    On a GPU that takes seconds and keeps the temporaries (8-byte indices of the size of the parameter) out of
    memory. On a CPU it takes half a minute of C++ compiler in the first update; `NOTE` says what its lack costs.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of the parameters that have gradients."""
        with gate.compiling("force_eager"):
            loss: float | None = super().step(closure)
        return loss


def build(groups: list[Group], learning_rate: float, *, compiled: bool) -> AdamW8bit:
    """β 0.9/0.999, eps 1e-8, weight decay where groups have it, blocks of 256 values.

    Tensors under 4,096 values stay in fp32.
    """
    kind = AdamW8bit if compiled else EagerAdamW8bit
    return kind(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
