"""Choosing a model: by words, by the cursor, by what is typed."""

from __future__ import annotations

import pytest

from tests.tui.screen_text import SIZES, Stage, stage
from tui.screens.choose_model import ChooseModelScreen
from tui.screens.main import MainScreen


async def _open(s: Stage) -> None:
    await s.press("m", "enter")
    assert isinstance(s.app.screen, ChooseModelScreen)


@pytest.mark.parametrize("size", SIZES)
async def test_a_name_is_found_by_its_words_and_taken(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await _open(s)
        await s.press(*"llama", "space", *"3.2")
        assert "llama-3.2-1b" in s.dialog
        assert "1.24 B" in s.dialog
        assert "bert-base-uncased" not in s.dialog
        assert "…" not in s.dialog
        await s.press("down", "enter")
        assert isinstance(s.app.screen, MainScreen)
        assert s.app.state.editor.config.model == "llama-3.2-3b"


async def test_a_hub_name_is_taken_as_it_is_typed() -> None:
    async with stage((120, 40)) as s:
        await _open(s)
        await s.press(*"meta-llama", "slash", *"my", "enter")
        assert s.app.state.editor.config.model == "meta-llama/my"


async def test_the_model_of_now_is_under_the_cursor_at_first() -> None:
    async with stage((120, 40)) as s:
        await _open(s)
        assert s.app.state.editor.config.model == "bert-mini"  # the key went one on
        await s.press("down", "enter")
        assert s.app.state.editor.config.model == "bert-small"


@pytest.mark.parametrize("size", SIZES)
async def test_a_small_model_has_its_size_in_millions_and_an_unpublished_one_none(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await _open(s)
        await s.press(*"bert", "space", *"uncased")
        assert "bert-tiny – google/" in s.dialog
        assert "bert-large-uncased 336 M google-bert/" in s.dialog
