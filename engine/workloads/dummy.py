"""The lecture's `dummy_data`: random tokens, to measure what training costs and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.contract.config import ConfigError, RunConfig
from engine.process.machine import Machine
from engine.workloads.collate import Samples, stack
from engine.workloads.data_shape import DataShape, full_shape
from engine.workloads.prepared import PreparedData

TOKEN_RANGE = (100, 30_000)
"""From the first to before the last token id, as in Hugging Face's guide "Efficient training on a single GPU"."""
_BYTES_PER_TOKEN = 4


def prepare_dummy(
    config: RunConfig,
    *,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    report: Callable[[str], None] = lambda what: None,
) -> PreparedData:
    """`samples` × `seq_len` token ids drawn from `TOKEN_RANGE`, without an attention mask; nothing is held out.

    Labels: `randint(0, 1)`, so all 0, for classification; the tokens themselves for causal-lm; as many other random
    tokens for seq2seq-lm. The generator is seeded with `seed` and belongs to this call alone.
    Raises `ConfigError` when the samples do not fit in the machine's free RAM.
    """
    report(f"drawing {config.n_samples:,} × {config.seq_len:,} random tokens")
    _check_room(config)
    low, high = token_range(model_vocab_size)
    generator = np.random.default_rng(config.seed)
    n_tokens = config.n_samples * config.seq_len
    sequences = {"input_ids": generator.integers(low, high, n_tokens, dtype=np.int32)}
    classes = None
    if config.task == "classification":
        classes = generator.integers(0, 1, config.n_samples)
    elif config.task == "causal-lm":
        sequences["labels"] = sequences["input_ids"]
    else:
        sequences["labels"] = generator.integers(low, high, n_tokens, dtype=np.int32)
    offsets = np.arange(config.n_samples + 1, dtype=np.int64) * config.seq_len
    return PreparedData(
        train=Samples(sequences, offsets, classes),
        evaluation=None,
        collate=stack,
        n_labels=2,
        label_names=("0", "1") if classes is not None else (),
        tokenizer=None,
        vocab_size=None,
        pad_token_id=pad_token_id or 0,
        notes=_notes(config, low, high),
    )


def dummy_shape(config: RunConfig) -> DataShape:
    """The shape of what `prepare_dummy` draws."""
    fields = (("input_ids", True), ("labels", config.task != "classification"))
    return full_shape(config, fields, n_labels=2, vocab_size=None, held_out=0)


def token_range(model_vocab_size: int | None) -> tuple[int, int]:
    """The range of tokens that are drawn for a model whose embedding has so many rows."""
    low, high = TOKEN_RANGE
    if model_vocab_size is None or model_vocab_size >= high:
        return low, high
    return (low if model_vocab_size > 2 * low else 0), model_vocab_size


def _check_room(config: RunConfig) -> None:
    arrays = 2 if config.task == "seq2seq-lm" else 1
    needed, free = config.n_samples * config.seq_len * _BYTES_PER_TOKEN * arrays, Machine().memory().available
    if free is not None and needed > free:
        raise ConfigError(
            "samples",
            f"--samples {config.n_samples:,} × --seq-len {config.seq_len:,} needs {needed / 2**30:,.1f} GiB of RAM "
            f"and {free / 2**30:,.1f} GiB are free: use fewer or shorter samples.",
        )


def _notes(config: RunConfig, low: int, high: int) -> tuple[str, ...]:
    labels = {
        "classification": "every label is 0",
        "causal-lm": "the labels are the tokens themselves",
        "seq2seq-lm": "the labels are other random tokens",
    }[config.task]
    notes = [
        f"Dummy data: {config.n_samples:,} samples of {config.seq_len:,} random tokens in [{low:,}, {high:,}); "
        f"{labels}; no attention mask and nothing held out, so there is a loss but no accuracy."
    ]
    if (low, high) != TOKEN_RANGE:
        notes.append(
            f"The lecture draws tokens from [{TOKEN_RANGE[0]:,}, {TOKEN_RANGE[1]:,}); "
            f"this model's vocabulary has only {high:,}."
        )
    if config.data is not None:
        notes.append("The dummy workload does not read --data: use --workload reviews to train on the file.")
    return tuple(notes)
