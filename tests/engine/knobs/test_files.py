"""Knobs saved to TOML and read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.knobs.files import MAX_BYTES, load_knobs, save_knobs


def _round_trip(config: RunConfig, path: Path) -> RunConfig:
    save_knobs(config, path)
    return RunConfig.from_dict(load_knobs(path))


def test_every_knob_survives_a_round_trip(tmp_path: Path) -> None:
    config = RunConfig(
        workload="reviews",
        data='odd "name"\\ with — signs.csv',
        label_column="stars",
        batch_size=3,
        gradient_checkpointing="every-second",
        learning_rate=1e-7,
        dropout=False,
    )
    assert _round_trip(config, tmp_path / "knobs.toml") == config
    assert _round_trip(RunConfig(), tmp_path / "knobs.toml") == RunConfig()


@given(
    data=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: text.strip() and text.strip().lower() != "none"
    ),
    rate=st.floats(0, 10),
    batch_size=st.integers(1, 65_536),
)
def test_any_text_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory, data: str, rate: float, batch_size: int
) -> None:
    config = RunConfig(workload="reviews", data=data, learning_rate=rate, batch_size=batch_size)
    assert _round_trip(config, tmp_path_factory.getbasetemp() / "any.toml") == config


def test_a_knob_that_is_not_set_has_no_line_and_comes_back_as_its_default() -> None:
    # TOML has no null, so "not set" must be the default of every knob that knows it
    own = RunConfig(workload="reviews", data="a.csv")
    named = {"data", "gpus"}  # the second has a word for it
    assert all(getattr(own, knob.name) is None for knob in KNOBS.values() if knob.optional and knob.name not in named)
    assert RunConfig().data is None


def test_all_gpus_are_written_as_a_word(tmp_path: Path) -> None:
    save_knobs(RunConfig(gpus=None), tmp_path / "knobs.toml")
    assert RunConfig.from_dict(load_knobs(tmp_path / "knobs.toml")).gpus is None


def test_a_partial_file_leaves_the_rest_at_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "knobs.toml"
    path.write_text('batch_size = 4\ngradient_checkpointing = true\nprecision = "bf16"\n')
    config = RunConfig.from_dict(load_knobs(path))
    assert config == RunConfig(batch_size=4, gradient_checkpointing="on", precision="bf16")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"batchsize = 4", "did you mean batch_size?"),
        (b"zzz = 4", "the knobs are job, model,"),
        (b"batch_size = ", "cannot be read as TOML"),
        (b"model = '\xff'", "cannot be read as TOML"),
        (b"model = " + b"[" * 50_000, "cannot be read as TOML"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_list_of_knobs_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "knobs.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        load_knobs(path)
    assert str(path) in refusal.value.message
    assert says in refusal.value.message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load_knobs(path)


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "knobs.toml"
    save_knobs(RunConfig(batch_size=2), path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="No space left"):
        save_knobs(RunConfig(batch_size=4), path)
    assert load_knobs(path)["batch_size"] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be saved"):
        save_knobs(RunConfig(), tmp_path / "none" / "knobs.toml")
