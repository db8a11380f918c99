"""Documents as a masked language model reads them: each with its special tokens, apart or run together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

Document = npt.NDArray[np.int32]


def special_tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind a text, such as [CLS] and [SEP]."""
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]


def masked_rows(
    documents: Sequence[Document], before: Sequence[int], after: Sequence[int], width: int, *, packed: bool
) -> list[Document]:
    """Documents as samples of at most `width` tokens, with special tokens around each; packed: full rows of them all.

    A rest that fills no row is left out, unless it is all there is.
    """
    inner = width - len(before) - len(after)
    if not packed:
        pieces = (document[i : i + inner] for document in documents for i in range(0, len(document), inner))
        return [np.array([*before, *piece, *after], dtype=np.int32) for piece in pieces]
    if not documents:
        return []
    flat = np.concatenate([np.array([*before, *document, *after], dtype=np.int32) for document in documents])
    n = len(flat) // width
    return [flat[i * width : (i + 1) * width] for i in range(n)] or [flat]
