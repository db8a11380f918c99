"""What a task means: the labels that it takes, how its loss is divided, what its score is called. Standard library."""

from __future__ import annotations

from dataclasses import dataclass

IGNORED = -100
"""A label that no loss counts, as in PyTorch and transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One choice of `--task`."""

    labels: tuple[tuple[str, bool], ...] = (("labels", True),)
    """The tensors of a batch that the loss needs, each with whether it has a value per token, or per sample."""
    is_divided_by_labels: bool = False
    """Whether an update's loss is divided by the labels of its whole window, as the Trainer does since transformers
    4.46 (`num_items_in_batch`); else it is the mean over the micro-steps."""
    shifts: bool = False
    """Whether a token's label belongs to the token before it, so that a row's first label counts for nothing."""
    is_new_head: bool = False
    """Whether the head has a part of its own, as a rule new, beside what the model was pretrained with."""
    score: str | None = None
    """What the share of right answers is called; None where there is none."""


TASKS: dict[str, Task] = {
    "classification": Task(labels=(("labels", False),), is_new_head=True, score="accuracy"),
    "causal-lm": Task(is_divided_by_labels=True, shifts=True),
    "masked-lm": Task(is_divided_by_labels=True),
    "seq2seq-lm": Task(is_divided_by_labels=True),
    "token-classification": Task(is_divided_by_labels=True, is_new_head=True, score="token accuracy"),
    "question-answering": Task(
        labels=(("start_positions", False), ("end_positions", False)), is_new_head=True, score="exact match"
    ),
}
"""By name."""
