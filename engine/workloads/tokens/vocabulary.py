"""Text -> token ids: a model's tokenizer applied once, up front, and a WordPiece vocabulary where it has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.config import ConfigError
from engine.workloads.files.plain_files import go_on
from engine.workloads.standalone import wordpiece
from engine.workloads.standalone.first_texts import MAX_VOCABULARY

_CHARACTERS_PER_TOKEN = 100  # more than any real text has; keeps a line of megabytes from being tokenised whole
_BATCH = 1_000  # texts


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised texts end to end.

    `sequences` holds int32 arrays of shape (total tokens,): `input_ids`, and `token_type_ids` if the tokenizer yields
    them. `offsets`, shape (texts + 1,), are the boundaries; `n_cut` counts texts that were longer than allowed.
    """

    sequences: dict[str, npt.NDArray[np.int32]]
    offsets: npt.NDArray[np.int64]
    n_cut: int


def train_wordpiece(texts: Sequence[str], model_vocab_size: int | None = None) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer in BERT's manner, trained on the first texts (see `MAX_TRAINED_ON`).

    The vocabulary has at most `MAX_VOCABULARY` entries, and no more than the model's embedding has rows. The same
    texts give the same vocabulary. Raises `ConfigError` when the model's vocabulary has no room for letters.
    """
    size = vocabulary_size(model_vocab_size)
    if wordpiece.letters_room(size) < 26:
        raise ConfigError(
            "model", f"the model's vocabulary of {size:,} entries is too small for text: use a larger --model."
        )
    return wordpiece.train_wordpiece(texts, size)


def vocabulary_size(model_vocab_size: int | None) -> int:
    """The most entries of a vocabulary that is trained for a model whose embedding has so many rows."""
    return min(MAX_VOCABULARY, model_vocab_size or MAX_VOCABULARY)


def tokenise(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    seq_len: int,
    pad_token_id: int,
    ask: Callable[[], None] = go_on,
    *,
    is_target: bool = False,
) -> Tokens:
    """Every text as at most `seq_len` tokens with the tokenizer's special ones; `pad_token_id` stands for no token.

    `is_target`: what a seq2seq model is to write, for which some tokenizers have words of their own. `ask` is called
    now and then, and may raise to end the work.
    """
    parts: dict[str, list[npt.NDArray[np.int32]]] = {}
    lengths: list[int] = []
    n_cut, room = 0, seq_len * _CHARACTERS_PER_TOKEN
    for start in range(0, len(texts), _BATCH):
        ask()
        batch = [text[:room] for text in texts[start : start + _BATCH]]
        options = {"truncation": True, "max_length": seq_len, "return_attention_mask": False}
        encoded = tokenizer(text_target=batch, **options) if is_target else tokenizer(batch, **options)
        for i, (text, ids) in enumerate(zip(texts[start : start + _BATCH], encoded["input_ids"], strict=True)):
            row = {name: encoded[name][i] for name in ("input_ids", "token_type_ids") if name in encoded}
            if not ids:  # a text that the tokenizer's normaliser leaves nothing of
                row = {name: [pad_token_id if name == "input_ids" else 0] for name in row}
            for name, values in row.items():
                parts.setdefault(name, []).append(np.array(values, dtype=np.int32))
            lengths.append(len(row["input_ids"]))
            overflows = encoded.encodings is not None and bool(encoded.encodings[i].overflowing)
            n_cut += overflows or len(text) > room
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens({name: np.concatenate(rows) for name, rows in parts.items()}, offsets, n_cut)


def pad_token_id_of(tokenizer: PreTrainedTokenizerBase, model_pad_token_id: int | None) -> int:
    """The tokenizer's padding token, else the model's, else the one that ends a text."""
    known = (tokenizer.pad_token_id, model_pad_token_id, tokenizer.eos_token_id)
    return next((int(token_id) for token_id in known if token_id is not None), 0)


def check_ids(ids: Sequence[npt.NDArray[np.int32]], model_vocab_size: int | None) -> None:
    """Raises `ConfigError` when a token has no row in the model's embedding."""
    highest = max(int(part.max(initial=0)) for part in ids)
    if model_vocab_size is not None and highest >= model_vocab_size:
        raise ConfigError(
            "model",
            f"the model's tokenizer yields token {highest:,} and its embedding has {model_vocab_size:,} rows: "
            "they do not belong together; use another --model.",
        )


def vocabulary_note(tokenizer: PreTrainedTokenizerBase, trained: str | None) -> str:
    """A sentence on the vocabulary; `trained` is the kind that was trained on the data, None for the model's own."""
    whose = "the model's own." if trained is None else f"{trained}, trained on the training part."
    return f"The vocabulary: {len(tokenizer):,} entries, {whose}"
