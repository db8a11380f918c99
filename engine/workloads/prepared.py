"""What a workload hands to the training. Data-loader workers may import this: nothing heavier than torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.workloads.collate import Collate, PaddingCollate, Samples
from engine.workloads.data_shape import DataShape, part_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """What the trainer needs to know about the data of a run."""

    train: Samples
    """The training samples, in the order in which the file was shuffled; the trainer orders each epoch."""
    evaluation: Samples | None
    """The held-out samples; None where nothing is held out."""
    collate: Collate
    """Samples to a batch of int64 tensors. Can be pickled, as data-loader workers need."""
    n_labels: int
    """Classes of a classification task; 2 where the task has none."""
    label_names: tuple[str, ...]
    """The classes' names by index, printable; empty for language models."""
    tokenizer: PreTrainedTokenizerBase | None
    vocab_size: int | None
    """Rows that the embedding must have, where a vocabulary was trained here; None leaves the model's alone."""
    pad_token_id: int
    notes: tuple[str, ...]
    """Sentences for the transcript: where the data came from, split sizes, majority class, vocabulary, truncation."""

    @property
    def majority(self) -> float | None:
        """The share of the largest class of the held-out samples: what always answering it scores; None without any."""
        classes = None if self.evaluation is None else self.evaluation.classes
        return None if classes is None or not len(classes) else float(np.bincount(classes).max() / len(classes))

    @property
    def shape(self) -> DataShape:
        """Its sizes: what a forecast of the same run is made from."""
        return DataShape(
            vocab_size=self.vocab_size,
            n_labels=self.n_labels,
            fields=tuple((name, tensor.dim() > 1) for name, tensor in self.collate([self.train[0]]).items()),
            train=part_of(self.train),
            evaluation=None if self.evaluation is None else part_of(self.evaluation),
            width=self.collate.length if isinstance(self.collate, PaddingCollate) else None,
            target_width=self.collate.target_length if isinstance(self.collate, PaddingCollate) else None,
        )
