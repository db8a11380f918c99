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

from engine.workloads.standalone.masking import Masking

Item = dict[str, torch.Tensor]
"""One sample: 1-D int64 tensors by name, and 0-D ones for what a whole sample has one of, such as its class."""
Collate = Callable[[Sequence[Item]], dict[str, torch.Tensor]]


class Samples(Dataset[Item]):
    """Token sequences laid end to end.

    Flat arrays rather than a list of tensors: one sample is a slice, and the whole is pickled to a data-loader
    worker in one piece without a shared-memory handle for every sample.
    `sequences` holds int32 arrays of shape (total tokens,) by name, `offsets` the (n + 1,) boundaries between samples,
    `scalars` the (n,) int64 values that a sample has one of by name, such as a classification's `labels`, `targets` the
    labels of a task whose target is a text of its own. With a `masking` a sample's words are hidden, others in each
    epoch: sample i of epoch e is the one at place e × n + i.
    """

    def __init__(
        self,
        sequences: dict[str, npt.NDArray[np.int32]],
        offsets: npt.NDArray[np.int64],
        scalars: dict[str, npt.NDArray[np.int64]] | None = None,
        targets: Targets | None = None,
        masking: Masking | None = None,
    ) -> None:
        self.sequences = sequences
        self.offsets = offsets
        self.scalars = scalars or {}
        self.targets = targets
        self.masking = masking

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def classes(self) -> npt.NDArray[np.int64] | None:
        """The labels of a classification task, shape (n,)."""
        return self.scalars.get("labels")

    def lengths(self) -> list[int]:
        """Tokens of every sample, without those of its target."""
        lengths: list[int] = np.diff(self.offsets).tolist()
        return lengths

    def __getitem__(self, place: int) -> Item:
        epoch, index = divmod(place, len(self))
        start, end = self.offsets[index], self.offsets[index + 1]
        item = {name: torch.from_numpy(flat[start:end].astype(np.int64)) for name, flat in self.sequences.items()}
        if self.masking is not None:
            hidden = self.masking.hide(item["input_ids"].numpy(), epoch, index)
            item["input_ids"], item["labels"] = map(torch.from_numpy, hidden)
        if self.targets is not None:
            start, end = self.targets.offsets[index], self.targets.offsets[index + 1]
            item["labels"] = torch.from_numpy(self.targets.labels[start:end].astype(np.int64))
        return item | {name: torch.tensor(values[index]) for name, values in self.scalars.items()}


def stack(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """A batch of samples of one length, without an attention mask: (batch, length), and (batch,) for scalars."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a model that reads one text and writes another is to write: texts with lengths of their own, end to end.

    `labels` is an int32 array of shape (total target tokens,), `offsets` the (n + 1,) boundaries between samples.
    """

    labels: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of every target."""
        return np.diff(self.offsets).astype(np.int32)


@dataclass(frozen=True, slots=True)
class PaddingCollate:
    """A batch of texts, padded on the right, with the attention mask that hides the padding.

    `length` is the width of every batch; None means the longest text of the batch. `target_length` is that of the
    labels where they are a text of their own; None likewise.
    """

    pad_token_id: int
    length: int | None = None
    fill: dict[str, int] = field(default_factory=dict)
    """What other sequences than `input_ids` are padded with, by name; 0 where not named."""
    own_width: str = ""
    """The sequence that has a length of its own, `labels` of a seq2seq model; empty: none."""
    target_length: int | None = None

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Tensors of shape (batch, width) by name, and `labels` of shape (batch,)."""
        batch = {"attention_mask": self._padded([torch.ones_like(item["input_ids"]) for item in items], 0, self.length)}
        for name in items[0]:
            values = [item[name] for item in items]
            if values[0].dim() == 0:
                batch[name] = torch.stack(values)
            else:
                fill = self.pad_token_id if name == "input_ids" else self.fill.get(name, 0)
                width = self.target_length if name == self.own_width else self.length
                batch[name] = self._padded(values, fill, width)
        return batch

    @staticmethod
    def _padded(rows: list[torch.Tensor], fill: int, width: int | None) -> torch.Tensor:
        together = pad_sequence(rows, batch_first=True, padding_value=fill)
        missing = (width or 0) - together.size(1)
        return pad(together, (0, missing), value=fill) if missing > 0 else together
