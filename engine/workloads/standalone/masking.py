"""Words hidden from a masked language model, in the manner of BERT and transformers' DataCollatorForLanguageModeling.

Which ones depends on the seed, the epoch and the sample alone: not on who makes the batch, nor on what else is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHARE = 0.15
"""Of the tokens that are no special ones: so many are to be predicted (Devlin et al. 2019, section 3.1)."""
HIDDEN, REPLACED = 0.8, 0.1
"""Of those, the shares that the mask token and a random one stand for; the rest stay as they are."""
NO_LABEL = -100
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """How the tokens of a sample are hidden."""

    seed: int
    mask_id: int
    n_words: int
    """Random tokens are drawn from 0 to before this."""
    special: tuple[int, ...]
    """Tokens that are never hidden."""

    def hide(self, ids: Ids, epoch: int, place: int) -> tuple[Ids, Ids]:
        """Tokens as the model sees them, and the labels: what was hidden, -100 elsewhere. Both of the shape of `ids`.

        At least one token of a sample is to be predicted, unless all are special.
        """
        generator = np.random.default_rng((self.seed, epoch, place))
        is_word = ~np.isin(ids, self.special)
        drawn = np.where(is_word, generator.random(len(ids)), 1.0)
        chosen = drawn < max(SHARE, drawn.min() + 1e-12)
        chosen &= is_word
        what = generator.random(len(ids))
        seen = np.where(chosen & (what < HIDDEN), self.mask_id, ids)
        is_replaced = chosen & (what >= HIDDEN) & (what < HIDDEN + REPLACED)
        seen = np.where(is_replaced, generator.integers(0, self.n_words, len(ids)), seen)
        return seen, np.where(chosen, ids, NO_LABEL)
