"""What a run's batches are made of, told from its knobs. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.contract.config import RunConfig


def is_padded(config: RunConfig) -> bool:
    """Whether texts of different lengths share a batch, with an attention mask that hides their padding."""
    if config.answers:
        are_alike = config.prompt is not None or (config.has_dummy_prompts and config.task != "classification")
        return config.batch_size > 1 and not are_alike
    if config.workload == "dummy" or config.padding == "packed":
        return False
    return config.workload != "text" or config.task != "causal-lm"  # running text is cut into full blocks


def keeps_apart(config: RunConfig) -> bool:
    """Whether texts that must not see each other share a row."""
    return config.padding == "packed" and config.task == "causal-lm"
