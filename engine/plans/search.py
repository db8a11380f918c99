"""The search for the largest batch size, or the longest prompt, that fits: doubles, then bisects. Pure: it is told how
every try ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from engine.contract.config import KNOBS, RunConfig
from engine.contract.numbers import n_of
from engine.contract.script_flags import all_turned

TRY_UPDATES = 3
"""Updates of one try. The optimizer's state is there from the second on, and the third shows that it stays so."""
SCRIPT_UPDATES = 10
"""Updates of one try of a user's own script, whose batches may differ in their lengths; it is not asked for more."""
BATCH_SIZE, PROMPT_LEN = "batch_size", "prompt_len"
LARGEST = int(KNOBS[BATCH_SIZE].maximum or 0)
COARSE = 8
"""A prompt's limit is known well enough once it is known to an eighth: each try of a long one takes long."""
_EVAL_SAMPLES = 64
_MOST_GPUS = 16
"""That a machine has as a rule: with fewer of them, all there are make more updates."""


class Fit(str, Enum):
    """How a try ended."""

    FITS = "fits"
    TOO_LARGE = "too large"
    NO_DATA = "no data"
    """There are too few samples to fill this batch size, or the model has too few positions for this prompt."""
    BROKEN = "broken"
    """It ended for another reason than memory: nothing is known about this size or a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """How sentences speak of what is looked for."""

    largest: str
    none: str
    ends: str
    """What ends besides the memory, before the value."""
    unit: str = ""


_WORDS = {
    BATCH_SIZE: _Words(
        largest="largest batch size", none="no batch size fits", ends="the data has too few samples for"
    ),
    PROMPT_LEN: _Words(
        largest="longest prompt", none="no prompt fits", ends="the model has no positions for", unit=" tokens"
    ),
}
SOUGHT = tuple(_WORDS)
"""Knobs whose largest value that fits can be looked for."""


@dataclass(slots=True)
class LimitSearch:
    """Looks for the largest value of a knob from 1 to `largest` that fits, beginning with `first`.

    Ask `next`, try that value, `tell` how it ended, until `next` is None. `fits` then holds the largest that was tried
    and fitted, and `fails` the smallest known too large, which is `fits + 1` (of a prompt within an eighth of `fits`)
    unless the data or a fault ended the search. That holds for any answers; where memory grows with the value, `fits`
    is the largest of all. With `first` 1 and n the largest that fits, it takes at most 2·⌊log₂ n⌋ + 2 tries.
    """

    knob: str = BATCH_SIZE
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
        """The value to try; None when the search is over."""
        if self.broken or self.fits >= self.largest:
            return None
        if self.fails is not None:
            near = self.fits // COARSE if self.knob == PROMPT_LEN else 0
            return (self.fits + self.fails) // 2 if self.fails - self.fits > max(1, near) else None
        return min(self.fits * 2 or self.first, self.largest)

    def tell(self, value: int, fit: Fit, why: str = "") -> None:
        """How the try of `value`, which `next` had named, ended. `why` says what broke."""
        self.tried[value] = fit
        if fit is Fit.FITS:
            self.fits = value
        elif fit is Fit.BROKEN:
            self.broken = why or "its run broke"
        else:
            self.fails = value
            self.data_ends = fit is Fit.NO_DATA

    def finding(self) -> str:
        """What the search found, in one sentence."""
        words, n = _WORDS[self.knob], len(self.tried)
        tries = n_of(n, "try", "tries")
        largest = f"{words.largest} that fits: {self.fits}{words.unit}" if self.fits else words.none
        if self.broken:
            largest = f"{words.largest} known to fit: {self.fits or 'none'}"
            return f"{largest}; the search ended ({tries}): {self.broken}"
        if self.data_ends and self.fails is not None:
            return f"{largest}; {words.ends} {self.fails} ({tries})."
        if self.fits == self.largest:
            return f"{largest}, which is the largest there is ({tries})."
        return f"{largest} ({self.fails} does not; {tries})."


def config_of_try(config: RunConfig, knob: str, value: int) -> RunConfig:
    """The run that tries a batch size: `TRY_UPDATES` updates of full windows on every GPU, one epoch; of a run that
    answers, one full batch; of a script its first updates. One that tries a prompt is as it is.

    Raises `ConfigError` where a script's command does not carry the batch size.
    """
    if knob == PROMPT_LEN:
        return config.with_values(prompt_len=value)
    if config.is_script:
        return all_turned(config, {"batch_size": value, "max_updates": config.max_updates or SCRIPT_UPDATES})
    if config.answers:
        return config.with_values(batch_size=value, requests=value)
    window = value * config.gradient_accumulation_steps * (config.gpus or _MOST_GPUS)
    return config.with_values(
        batch_size=value,
        samples=min(int(KNOBS["samples"].maximum or 0), TRY_UPDATES * window),
        eval_samples=min(config.eval_samples, _EVAL_SAMPLES),
        epochs=1,
    )
