"""What makes a batch of samples in the script."""

from __future__ import annotations

from engine.contract.batching import is_padded
from engine.contract.config import RunConfig


def collator_of(config: RunConfig) -> str:
    """What makes a batch of samples."""
    if not is_padded(config):
        return "default_data_collator"
    if config.task == "seq2seq-lm":
        return "default_data_collator" if config.padding == "max_length" else "DataCollatorForSeq2Seq(tokenizer)"
    # the one for token classification pads labels with -100 along with their tokens
    kind = "DataCollatorWithPadding" if config.workload == "reviews" else "DataCollatorForTokenClassification"
    if config.padding == "max_length":
        return f'{kind}(tokenizer, padding="max_length", max_length=SEQ_LEN)'
    return f"{kind}(tokenizer)"
