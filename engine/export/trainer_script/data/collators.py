"""What makes a batch of samples in the script."""

from __future__ import annotations

from engine.contract.config import RunConfig


def collator_of(config: RunConfig) -> str:
    """What makes a batch of samples."""
    if config.workload != "reviews":
        return "default_data_collator"
    if config.padding == "max_length":
        return 'DataCollatorWithPadding(tokenizer, padding="max_length", max_length=SEQ_LEN)'
    return "DataCollatorWithPadding(tokenizer)"
