"""How long a text, and how large a batch, a card has room for: found by playing some of the steps of a few tries."""

from __future__ import annotations

from collections.abc import Callable

MOST_TRIES = 16
CLOSE = 0.005
"""Share of a number that it may be told too small by."""


def largest(needs: Callable[[int], int], fits: Callable[[int], bool], least: int, most: int, room: int) -> int | None:
    """The largest number from `least` to `most` that fits; None where `least` does not.

    `needs`: bytes allocated at the most, about evenly more with the number, of which there is `room`: that says where
    to look. `fits` is asked for the verdict.
    """
    if not fits(least):
        return None
    if fits(most):
        return most
    low, high = least, most
    at = needs(least)
    twice = max(min(2 * least, most), least + 1)
    each = (needs(twice) - at) / (twice - least)
    guess = least + int((room - at) / each) if each > 0 else high
    for tries in range(MOST_TRIES):
        if high - low <= max(1, int(CLOSE * low)):
            break
        guess = min(max(guess, low + 1), high - 1)
        if fits(guess):
            low = guess
            guess = int(guess * (1 + CLOSE)) + 1 if tries < 2 else (low + high) // 2
        else:
            high = guess
            guess = int(guess * (1 - 2 * CLOSE)) if tries < 2 else (low + high) // 2
    return low
