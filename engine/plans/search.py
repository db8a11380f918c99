"""The search for the largest batch size that fits: doubles, then bisects. Pure: it is told how every try ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from engine.contract.config import KNOBS, RunConfig

TRY_UPDATES = 3
"""Updates of one try. The optimizer's state is there from the second on, and the third shows that it stays so."""
LARGEST = int(KNOBS["batch_size"].maximum or 0)
_EVAL_SAMPLES = 64
_MOST_GPUS = 16
"""That a machine has as a rule: with fewer of them, all there are make more updates."""


class Fit(str, Enum):
    """How a try ended."""

    FITS = "fits"
    TOO_LARGE = "too large"
    NO_DATA = "no data"
    """There are too few samples to fill this batch size."""
    BROKEN = "broken"
    """It ended for another reason than memory: nothing is known about this size or a larger one."""


@dataclass(slots=True)
class BatchSearch:
    """Looks for the largest batch size from 1 to `largest` that fits, beginning with `first`.

    Ask `next`, try that size, `tell` how it ended, until `next` is None. `fits` then holds the largest size that was
    tried and fitted, and `fails` the smallest known too large, which is `fits + 1` unless the data or a fault ended the
    search. That holds for any answers; where memory grows with the batch size, `fits` is the largest of all. With
    `first` 1 and n the largest that fits, it takes at most 2·⌊log₂ n⌋ + 2 tries.
    """

    first: int = 1
    largest: int = LARGEST
    fits: int = 0
    """0 while none is known."""
    fails: int | None = None
    data_ends: bool = False
    """True when the data, not the memory, set the limit."""
    broken: str = ""
    """Why the search could not go on, where it ended for another reason than memory."""
    tried: dict[int, Fit] = field(default_factory=dict)

    def next(self) -> int | None:
        """The batch size to try; None when the search is over."""
        if self.broken or self.fits >= self.largest:
            return None
        if self.fails is not None:
            return (self.fits + self.fails) // 2 if self.fails - self.fits > 1 else None
        return min(self.fits * 2 or self.first, self.largest)

    def tell(self, batch_size: int, fit: Fit, why: str = "") -> None:
        """How the try of `batch_size`, which `next` had named, ended. `why` says what broke."""
        self.tried[batch_size] = fit
        if fit is Fit.FITS:
            self.fits = batch_size
        elif fit is Fit.BROKEN:
            self.broken = why or "its run broke"
        else:
            self.fails = batch_size
            self.data_ends = fit is Fit.NO_DATA

    def finding(self) -> str:
        """What the search found, in one sentence."""
        n = len(self.tried)
        tries = f"{n} {'try' if n == 1 else 'tries'}"
        largest = f"largest batch size that fits: {self.fits}" if self.fits else "no batch size fits"
        if self.broken:
            largest = f"largest batch size known to fit: {self.fits or 'none'}"
            return f"{largest}; the search ended ({tries}): {self.broken}"
        if self.data_ends and self.fails is not None:
            return f"{largest}; the data has too few samples for {self.fails} ({tries})."
        if self.fits == self.largest:
            return f"{largest}, which is the largest there is ({tries})."
        return f"{largest} ({self.fails} does not; {tries})."


def config_of_try(config: RunConfig, batch_size: int) -> RunConfig:
    """The run that tries a batch size: `TRY_UPDATES` updates of full windows on every GPU, one epoch."""
    window = batch_size * config.gradient_accumulation_steps * (config.gpus or _MOST_GPUS)
    return config.with_values(
        batch_size=batch_size,
        samples=min(int(KNOBS["samples"].maximum or 0), TRY_UPDATES * window),
        eval_samples=min(config.eval_samples, _EVAL_SAMPLES),
        epochs=1,
    )
