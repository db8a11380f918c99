"""What guessing gains: the formulas against counting all outcomes, and against each other."""

from __future__ import annotations

import pytest

from engine.contract.speculation import acceptance, break_even, rate_of, speed_up, tokens_per_forward

RATES = (0.0, 0.3, 0.8, 0.99, 1.0)


@pytest.mark.parametrize("guessed", [1, 4, 10])
@pytest.mark.parametrize("rate", RATES)
def test_tokens_per_forward_are_the_mean_over_all_outcomes(rate: float, guessed: int) -> None:
    """`right` guesses are right before the first wrong one, and the forward gives a token of its own."""
    outcomes = [(right + 1, rate**right * (1 - rate)) for right in range(guessed)] + [(guessed + 1, rate**guessed)]
    assert tokens_per_forward(rate, guessed) == pytest.approx(sum(tokens * chance for tokens, chance in outcomes))


def test_a_published_example() -> None:
    """Leviathan et al. 2023, table 4: T5-XXL and T5-small, English to German, greedy; 3.4 was measured."""
    assert speed_up(0.75, 7, 0.02) == pytest.approx(3.2, abs=0.05)


@pytest.mark.parametrize("guessed", [1, 4, 10])
@pytest.mark.parametrize("rate", RATES)
def test_the_rate_follows_from_the_share_that_is_accepted(rate: float, guessed: int) -> None:
    assert rate_of(acceptance(rate, guessed), guessed) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(("guessed", "cost", "check"), [(4, 0.05, 1.0), (8, 0.1, 1.3), (2, 0.0, 1.5)])
def test_it_breaks_even_where_it_neither_gains_nor_loses(guessed: int, cost: float, check: float) -> None:
    share = break_even(guessed, cost, check)
    assert speed_up(rate_of(share, guessed), guessed, cost, check) == pytest.approx(1.0, abs=1e-6)
    assert speed_up(rate_of(share + 0.05, guessed), guessed, cost, check) > 1.0


def test_a_draft_as_slow_as_the_model_never_pays() -> None:
    assert break_even(4, 1.0) >= 1.0
    assert speed_up(1.0, 4, 1.0) == 1.0
