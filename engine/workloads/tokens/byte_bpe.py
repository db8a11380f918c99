"""Running text -> token ids: a byte-level BPE vocabulary as GPT-2's, and documents tokenised as far as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.config import ConfigError
from engine.workloads.files.plain_files import go_on
from engine.workloads.standalone import byte_level
from engine.workloads.tokens.vocabulary import vocabulary_size

_BATCH = 256  # pieces
Tokens1D = npt.NDArray[np.int32]


def train_byte_bpe(texts: Sequence[str], model_vocab_size: int | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on the first texts: every text can be written in it, and nothing is unknown.

    At most `MAX_VOCABULARY` entries, and no more than the model's embedding has rows. The same texts give the same
    vocabulary. Raises `ConfigError` when the model's vocabulary has no room for the 256 bytes.
    """
    size = vocabulary_size(model_vocab_size)
    if size < len(pre_tokenizers.ByteLevel.alphabet()) + 1:
        raise ConfigError(
            "model", f"the model's vocabulary of {size:,} entries is too small for text: use a larger --model."
        )
    return byte_level.train_byte_bpe(texts, size)


def train_ending_bpe(texts: Sequence[str], model_vocab_size: int | None = None) -> PreTrainedTokenizerFast:
    """As `train_byte_bpe`, but the end-of-text token follows each text, so that a model learns where to stop."""
    return byte_level.ending(train_byte_bpe(texts, model_vocab_size))


def tokenise_documents(
    documents: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    end: int | None,
    *,
    at_most: int | None,
    ask: Callable[[], None] = go_on,
) -> list[Tokens1D]:
    """Every document as tokens with `end` behind it, without other special tokens, until there are `at_most` tokens.

    None takes all. A document at the border is cut there. `ask` is called now and then, and may raise to end the work.
    """
    found: list[Tokens1D] = []
    parts: list[list[int]] = []
    for ids, is_last in _encoded(documents, tokenizer):
        ask()
        parts.append(ids)
        enough = at_most is not None and sum(map(len, parts)) >= at_most
        if is_last or enough:
            tokens = [token for part in parts for token in part]
            if is_last and end is not None and tokens:
                tokens.append(end)
            document = np.array(tokens[:at_most], dtype=np.int32)
            parts = []
            if len(document):
                found.append(document)
            if at_most is not None:
                at_most -= len(document)
        if at_most is not None and at_most <= 0:
            break
    return found


def _encoded(documents: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], bool]]:
    """The ids of every piece, and whether it is its document's last; a batch of pieces is tokenised at a time."""
    batch: list[tuple[str, bool]] = []
    for document in documents:
        pieces = byte_level.pieces_of(document)
        batch += [(piece, i == len(pieces) - 1) for i, piece in enumerate(pieces)]
        if len(batch) >= _BATCH:
            yield from _encode(batch, tokenizer)
            batch = []
    if batch:
        yield from _encode(batch, tokenizer)


def _encode(batch: list[tuple[str, bool]], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], bool]]:
    texts = [text for text, _ in batch]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, truncation=False, verbose=False)
    return zip(encoded["input_ids"], (is_last for _, is_last in batch), strict=True)
