"""Samples in memory, and the batch that a list of them becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

Item = dict[str, torch.Tensor]
"""One sample: 1-D int64 tensors by name, and `labels` as a 0-D one where the task is classification."""
Collate = Callable[[Sequence[Item]], dict[str, torch.Tensor]]


class Samples(Dataset[Item]):
    """Token sequences laid end to end.

    Flat arrays rather than a list of tensors: one sample is a slice, and the whole is pickled to a data-loader
    worker in one piece without a shared-memory handle for every sample.
    `sequences` holds int32 arrays of shape (total tokens,) by name, `offsets` the (n + 1,) boundaries between samples,
    `classes` the (n,) labels of a classification task.
    """

    def __init__(
        self,
        sequences: dict[str, npt.NDArray[np.int32]],
        offsets: npt.NDArray[np.int64],
        classes: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.sequences = sequences
        self.offsets = offsets
        self.classes = classes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> list[int]:
        """Tokens of every sample."""
        lengths: list[int] = np.diff(self.offsets).tolist()
        return lengths

    def __getitem__(self, index: int) -> Item:
        start, end = self.offsets[index], self.offsets[index + 1]
        item = {name: torch.from_numpy(flat[start:end].astype(np.int64)) for name, flat in self.sequences.items()}
        if self.classes is not None:
            item["labels"] = torch.tensor(self.classes[index])
        return item


def stack(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """A batch of samples of one length, without an attention mask: (batch, length), and (batch,) for scalars."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@dataclass(frozen=True, slots=True)
class PaddingCollate:
    """A batch of texts, padded on the right, with the attention mask that hides the padding.

    `length` is the width of every batch; None means the longest text of the batch.
    """

    pad_token_id: int
    length: int | None = None
    fill: dict[str, int] = field(default_factory=dict)
    """What other sequences than `input_ids` are padded with, by name; 0 where not named."""

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Tensors of shape (batch, width) by name, and `labels` of shape (batch,)."""
        batch = {"attention_mask": self._padded([torch.ones_like(item["input_ids"]) for item in items], 0)}
        for name in items[0]:
            values = [item[name] for item in items]
            if values[0].dim() == 0:
                batch[name] = torch.stack(values)
            else:
                fill = self.pad_token_id if name == "input_ids" else self.fill.get(name, 0)
                batch[name] = self._padded(values, fill)
        return batch

    def _padded(self, rows: list[torch.Tensor], fill: int) -> torch.Tensor:
        together = pad_sequence(rows, batch_first=True, padding_value=fill)
        missing = (self.length or 0) - together.size(1)
        return pad(together, (0, missing), value=fill) if missing > 0 else together
