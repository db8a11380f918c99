"""Configurations under a name: kept as TOML, never outside their folder, and still there after a mistake."""

from __future__ import annotations

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.knobs import named as named_knobs
from engine.knobs.files import load_knobs
from engine.knobs.named import BUILT_IN

CONFIG = RunConfig(batch_size=16, gradient_checkpointing="on", vram_limit=4000)


def names() -> list[str]:
    return [named.name for named in named_knobs.saved()]


def test_what_is_saved_comes_back_equal_and_sorted() -> None:
    assert names() == []
    named_knobs.save("second try, 4 GB no", CONFIG)
    named_knobs.save("First", RunConfig())
    assert names() == ["First", "second try, 4 GB no"]
    assert named_knobs.saved()[1].config == CONFIG
    assert RunConfig.from_dict(load_knobs(named_knobs.folder() / "second try, 4 GB no.toml")) == CONFIG


def test_the_same_name_is_replaced() -> None:
    named_knobs.save("mine", RunConfig())
    named_knobs.save("mine", CONFIG)
    assert [named.config for named in named_knobs.saved()] == [CONFIG]


@pytest.mark.parametrize("name", ["", " ", "../x", "a/b", "a\\b", ".hidden", "-flag", "x" * 51, "a\nb", "a\x00b", "b "])
def test_a_name_that_is_none_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name: take up to 50 characters"):
        named_knobs.save(name, CONFIG)
    assert names() == []


def test_what_was_deleted_comes_back() -> None:
    named_knobs.save("mine", CONFIG)
    named_knobs.delete("mine")
    assert names() == []
    named_knobs.restore("mine")
    assert [named.config for named in named_knobs.saved()] == [CONFIG]
    named_knobs.delete("mine")
    with pytest.raises(ConfigError, match="cannot be moved"):
        named_knobs.delete("mine")


def test_a_file_that_cannot_be_used_is_listed_with_the_reason() -> None:
    named_knobs.save("mine", CONFIG)
    (named_knobs.folder() / "broken.toml").write_text("batch_size = 0\n")
    broken, mine = named_knobs.saved()
    assert mine.config == CONFIG
    assert broken.config is None
    assert "batch" in broken.about


def test_a_folder_that_cannot_be_made_says_so() -> None:
    named_knobs.folder().parent.mkdir(parents=True, exist_ok=True)
    named_knobs.folder().write_text("in the way")
    with pytest.raises(ConfigError, match=r"cannot be made|cannot be saved"):
        named_knobs.save("mine", CONFIG)
    assert names() == []


def test_the_built_in_ones_are_told_apart_and_explained() -> None:
    assert len({named.name for named in BUILT_IN}) == len(BUILT_IN)
    assert len({named.config for named in BUILT_IN}) == len(BUILT_IN)
    assert all(named.about.endswith(".") and named.config is not None for named in BUILT_IN)
