"""What a run's data does to memory and speed, without its tokens: the one answer for the run and its forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.contract.config import RunConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.workloads.collate import Samples

MASK = "attention_mask"
POSITIONS = "position_ids"


class BatchShape(NamedTuple):
    """A batch as memory sees it."""

    samples: int
    width: int
    """Tokens of a row."""
    hides: bool
    """Whether a token must not look at another one: padding, or documents that share a row."""
    target: int = 0
    """Tokens of a row of labels that are a text of their own; 0 where there is none."""

    @property
    def tokens(self) -> int:
        """Of all its rows, with their targets."""
        return self.samples * (self.width + self.target)

    def shape_of(self, name: str, per_token: bool) -> tuple[int, ...]:
        """Of the tensor called `name`, one of `DataShape.fields`."""
        if not per_token:
            return (self.samples,)
        return self.samples, self.target if self.target and name == "labels" else self.width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The samples that train, or those that are held out."""

    tokens: npt.NDArray[np.int32]
    """Of every sample, shape (samples,)."""
    divided: npt.NDArray[np.bool_] | None = None
    """Whether a sample alone makes its batch hide something, such as a row of several documents; None: none does."""
    targets: npt.NDArray[np.int32] | None = None
    """Tokens of every sample's target, shape (samples,), where that is a text of its own."""

    @property
    def n(self) -> int:
        return len(self.tokens)

    def first(self, n: int) -> Part:
        """The first `n` samples."""
        return Part(
            tokens=self.tokens[:n],
            divided=None if self.divided is None else self.divided[:n],
            targets=None if self.targets is None else self.targets[:n],
        )

    @property
    def is_uniform(self) -> bool:
        """Whether all samples are alike, so that their order does not matter."""
        lengths = (self.tokens,) if self.targets is None else (self.tokens, self.targets)
        same = all(int(each.min()) == int(each.max()) for each in lengths)
        return same and (self.divided is None or bool(self.divided.all()) or not self.divided.any())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataShape:
    """Sizes of a run's data."""

    vocab_size: int | None
    """Rows that the embedding must have, where a vocabulary was trained on the data; None leaves the model's alone."""
    n_labels: int
    """Classes of a classification task; 2 where the task has none."""
    fields: tuple[tuple[str, bool], ...]
    """The tensors of a batch in order, each with whether it has a value per token, (samples, width), or per sample."""
    train: Part
    evaluation: Part | None
    """None where nothing is held out."""
    width: int | None = None
    """Of every batch; None: its longest sample's."""
    target_width: int | None = None
    """Likewise of the targets."""

    def batches(self, part: Part, order: Sequence[int] | None, batch_size: int) -> list[BatchShape]:
        """The batches of a pass over `part`; `order` None keeps its own. The last one may be incomplete."""
        chosen = slice(None) if order is None else np.asarray(order)
        tokens = part.tokens[chosen]
        starts = np.arange(0, len(tokens), batch_size)
        samples = np.diff(starts, append=len(tokens))
        shortest = np.minimum.reduceat(tokens, starts)
        widths = _widths(tokens, starts, self.width)
        targets = np.zeros_like(widths)
        if part.targets is not None:
            targets = _widths(part.targets[chosen], starts, self.target_width)
        hides = np.zeros(len(starts), dtype=bool)
        if any(name == MASK for name, _ in self.fields):
            hides |= shortest < widths
        if part.divided is not None:
            hides |= np.logical_or.reduceat(part.divided[chosen], starts)
        columns = samples, widths, hides, targets
        return [BatchShape(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _widths(tokens: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], least: int | None) -> npt.NDArray[np.int32]:
    longest: npt.NDArray[np.int32] = np.maximum.reduceat(tokens, starts)
    return longest if least is None else np.maximum(longest, least)


def part_of(samples: Samples) -> Part:
    """The sizes of samples in memory."""
    tokens = np.diff(samples.offsets).astype(np.int32)
    targets = None if samples.targets is None else samples.targets.lengths()
    positions = samples.sequences.get(POSITIONS)
    if positions is None:
        return Part(tokens=tokens, targets=targets)
    # a document begins at position 0: a row with another one than its first is divided
    begins = np.concatenate([[0], np.cumsum(positions == 0)])
    return Part(tokens=tokens, targets=targets, divided=np.diff(begins[samples.offsets]) > 1)


def full_shape(
    config: RunConfig, fields: tuple[tuple[str, bool], ...], *, n_labels: int, vocab_size: int | None, held_out: int
) -> DataShape:
    """Samples of `seq_len` tokens each, with targets of `target_tokens`, without memory for them.

    Where there is a mask, every batch hides something.
    """

    def part(n: int) -> Part:
        hides = any(name in (MASK, POSITIONS) for name, _ in fields)
        target = config.target_tokens
        return Part(
            tokens=np.broadcast_to(np.int32(config.seq_len), n),
            divided=np.broadcast_to(np.True_, n) if hides else None,
            targets=np.broadcast_to(np.int32(target), n) if target else None,
        )

    return DataShape(
        vocab_size=vocab_size,
        n_labels=n_labels,
        fields=fields,
        train=part(config.n_samples),
        evaluation=part(held_out) if held_out else None,
    )
