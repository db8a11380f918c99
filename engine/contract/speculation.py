"""What guessing tokens gains, and from when on. Standard library only.

Leviathan, Kalman and Matias 2023, Fast Inference from Transformers via Speculative Decoding, sections 3.1 and 3.3. A
guess is right with the same chance, `rate`, wherever those before it were; `guessed` tokens are guessed at a time.
`cost` is what guessing one of them takes, in forwards of the model that answers; `check` what a forward over them all
takes, in forwards over one token: 1 while reading the weights is what takes the time, as in small batches on a GPU.
"""

from __future__ import annotations

_PRECISE = 1e-9


def tokens_per_forward(rate: float, guessed: int) -> float:
    """Expected: the guesses before the first wrong one, and the token that the forward itself gives (equation 1)."""
    return guessed + 1.0 if rate >= 1.0 else (1.0 - rate ** (guessed + 1)) / (1.0 - rate)


def acceptance(rate: float, guessed: int) -> float:
    """Expected share of the guesses that are kept. It is less than `rate`: a wrong one takes those after it along."""
    return (tokens_per_forward(rate, guessed) - 1.0) / guessed


def rate_of(acceptance_: float, guessed: int) -> float:
    """The inverse of `acceptance`."""
    low, high = 0.0, 1.0
    while high - low > _PRECISE:
        middle = (low + high) / 2
        low, high = (middle, high) if acceptance(middle, guessed) < acceptance_ else (low, middle)
    return (low + high) / 2


def speed_up(rate: float, guessed: int, cost: float, check: float = 1.0) -> float:
    """Tokens/s with guessing ÷ without (theorem 3.8, where `check` is 1)."""
    return tokens_per_forward(rate, guessed) / (check + guessed * cost)


def break_even(guessed: float, cost: float, check: float = 1.0) -> float:
    """The acceptance from which on guessing pays; above 1 it never does.

    From `speed_up` = 1: acceptance · guessed + 1 = check + guessed · cost.
    """
    return cost + (check - 1.0) / guessed
