"""The lecture's `dummy_data`: random tokens, to measure what training costs and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engine.contract.config import ConfigError, RunConfig
from engine.contract.tasks import IGNORED, TASKS
from engine.process.machine import Machine
from engine.workloads.collate import Samples, Targets, stack
from engine.workloads.data_shape import DataShape, full_shape
from engine.workloads.prepared import PreparedData

TOKEN_RANGE = (100, 30_000)
"""From the first to before the last token id, as in Hugging Face's guide "Efficient training on a single GPU"."""
MASKED = 0.15
"""Share of the tokens that a masked language model predicts (Devlin et al. 2018, BERT, section 3.1)."""
N_TAGS = 9
"""Classes of a token: CoNLL-2003's four kinds of names, each with begin and inside, and the rest."""
_BYTES_PER_TOKEN = 4


def prepare_dummy(
    config: RunConfig,
    *,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    report: Callable[[str], None] = lambda what: None,
) -> PreparedData:
    """`samples` × `seq_len` token ids drawn from `TOKEN_RANGE`, without an attention mask; nothing is held out.

    Labels: `randint(0, 1)`, so all 0, for classification; the tokens themselves for causal-lm, and at 15 % of the
    positions for masked-lm; `target_len` other random tokens for seq2seq-lm; a random class of every token for
    token-classification; a random begin and an end not before it for question-answering. The generator is seeded with
    `seed` and belongs to this call alone.
    Raises `ConfigError` when the samples do not fit in the machine's free RAM.
    """
    report(f"drawing {config.n_samples:,} × {config.seq_len:,} random tokens")
    _check_room(config)
    low, high = token_range(model_vocab_size)
    generator = np.random.default_rng(config.seed)
    n_tokens = config.n_samples * config.seq_len
    sequences = {"input_ids": generator.integers(low, high, n_tokens, dtype=np.int32)}
    scalars: dict[str, npt.NDArray[np.int64]] = {}
    targets = None
    if config.task == "classification":
        scalars["labels"] = generator.integers(0, 1, config.n_samples)
    elif config.task == "causal-lm":
        sequences["labels"] = sequences["input_ids"]
    elif config.task == "masked-lm":
        is_masked = generator.random(n_tokens) < MASKED
        sequences["labels"] = np.where(is_masked, sequences["input_ids"], np.int32(IGNORED))
    elif config.task == "token-classification":
        sequences["labels"] = generator.integers(0, N_TAGS, n_tokens, dtype=np.int32)
    elif config.task == "question-answering":
        scalars["start_positions"] = generator.integers(0, config.seq_len, config.n_samples)
        scalars["end_positions"] = generator.integers(scalars["start_positions"], config.seq_len)
    else:
        n, of_each = config.n_samples, config.target_tokens
        labels = generator.integers(low, high, n * of_each, dtype=np.int32)
        targets = Targets(labels=labels, offsets=np.arange(n + 1, dtype=np.int64) * of_each)
    offsets = np.arange(config.n_samples + 1, dtype=np.int64) * config.seq_len
    return PreparedData(
        train=Samples(sequences, offsets, scalars, targets),
        evaluation=None,
        collate=stack,
        n_labels=_n_labels(config),
        label_names=tuple(map(str, range(_n_labels(config)))) if "classification" in config.task else (),
        tokenizer=None,
        vocab_size=None,
        pad_token_id=pad_token_id or 0,
        notes=_notes(config, low, high),
    )


def dummy_shape(config: RunConfig) -> DataShape:
    """The shape of what `prepare_dummy` draws."""
    fields = (("input_ids", True), *TASKS[config.task].labels)
    return full_shape(config, fields, n_labels=_n_labels(config), vocab_size=None, held_out=0)


def _n_labels(config: RunConfig) -> int:
    return N_TAGS if config.task == "token-classification" else 2


def token_range(model_vocab_size: int | None) -> tuple[int, int]:
    """The range of tokens that are drawn for a model whose embedding has so many rows."""
    low, high = TOKEN_RANGE
    if model_vocab_size is None or model_vocab_size >= high:
        return low, high
    return (low if model_vocab_size > 2 * low else 0), model_vocab_size


def _check_room(config: RunConfig) -> None:
    arrays = 2 if config.task in ("masked-lm", "token-classification") else 1
    of_each = config.seq_len * arrays + config.target_tokens
    needed, free = config.n_samples * of_each * _BYTES_PER_TOKEN, Machine().memory().available
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
        "masked-lm": f"the labels are the tokens themselves at {MASKED * 100:.0f} % of the positions",
        "seq2seq-lm": f"the labels are {config.target_tokens:,} other random tokens",
        "token-classification": f"the labels are random among {N_TAGS} classes",
        "question-answering": "begin and end of the answer are random",
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
