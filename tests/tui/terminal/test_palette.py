"""Colours: every theme knows every category, and with sixteen colours they are still told apart."""

from __future__ import annotations

import pytest
from rich.color import Color, ColorSystem

from tui.terminal.palette import DARK, SIXTEEN, THEMES

CATEGORIES = ("t-weights", "t-backward", "t-optimizer", "t-activations")


def on_16(colour: str) -> int | None:
    return Color.parse(colour).downgrade(ColorSystem.STANDARD).number


@pytest.mark.parametrize("themes", [THEMES, SIXTEEN])
def test_every_theme_has_a_colour_for_everything(themes: dict[str, object]) -> None:
    assert list(themes) == list(THEMES)
    for theme in themes.values():
        assert set(theme.variables) == set(DARK)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", THEMES)
@pytest.mark.parametrize("themes", [THEMES, SIXTEEN], ids=["many", "sixteen"])
def test_no_two_categories_of_memory_share_a_colour(name: str, themes: dict[str, object]) -> None:
    variables: dict[str, str] = themes[name].variables  # type: ignore[attr-defined]
    assert len({variables[category] for category in CATEGORIES}) == len(CATEGORIES)


@pytest.mark.parametrize("name", SIXTEEN)
def test_with_sixteen_colours_nothing_falls_together_or_into_the_background(name: str) -> None:
    theme = SIXTEEN[name]
    numbers = [on_16(theme.variables[category]) for category in CATEGORIES]
    assert len(set(numbers)) == len(CATEGORIES)
    background = on_16(theme.background or "")
    assert background not in {on_16(colour) for colour in theme.variables.values()}
