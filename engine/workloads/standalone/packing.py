"""Several short documents in one row: which go together, and the positions and labels that keep them apart.

Positions start at 0 in every document, and a row has no attention mask: transformers' masks see where positions start
again and let no token look into another document. `engine.techniques.packing` proves it for the model at hand.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""The label that torch's cross-entropy leaves out."""
Tokens = npt.NDArray[np.int32]


def assign(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Documents by row, each row at most `width` tokens: best fit, longest first. No length is above `width`."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), sorted
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        place = bisect_left(room, (lengths[i], 0))
        if place < len(room):
            free, row = room.pop(place)
        else:
            free, row = width, len(rows)
            rows.append([])
        rows[row].append(i)
        if free > lengths[i]:
            insort(room, (free - lengths[i], row))
    return rows


def pack(
    documents: Sequence[Tokens],
    rows: Sequence[Sequence[int]],
    width: int,
    pad_token_id: int,
    labels_of: Sequence[Tokens] | None = None,
) -> dict[str, Tokens]:
    """Rows of `width` tokens, each (rows, width): `input_ids`, `position_ids` and `labels`.

    `labels_of` are the documents' labels; None: their tokens. A document's first token is no label, as nothing before
    it is its own. Padding has the position 0 each time, which makes every padding token a document of its own.
    """
    shape = (len(rows), width)
    ids = np.full(shape, pad_token_id, dtype=np.int32)
    positions = np.zeros(shape, dtype=np.int32)
    labels = np.full(shape, IGNORED, dtype=np.int32)
    for row, members in enumerate(rows):
        start = 0
        for i in members:
            end = start + len(documents[i])
            ids[row, start:end] = documents[i]
            positions[row, start:end] = np.arange(end - start)
            labels[row, start + 1 : end] = (documents if labels_of is None else labels_of)[i][1:]
            start = end
    return {"input_ids": ids, "position_ids": positions, "labels": labels}
