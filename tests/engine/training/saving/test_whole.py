"""Folders that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.training.saving.whole import into_folder, remove_leftovers, whole_folder


def files(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "one"
    for content in ("old", "new"):
        with whole_folder(target) as partial:
            (partial / "a").write_text(content)
            assert not target.exists() or files(target) == {"a": "old"}
    assert files(tmp_path) == {"deep/one/a": "new"}


def test_what_fails_leaves_the_older_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "one"
    with whole_folder(target) as partial:
        (partial / "a").write_text("old")

    def fill() -> None:
        with whole_folder(target) as partial:
            (partial / "a").write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert files(tmp_path) == {"one/a": "old"}


def test_files_go_into_a_folder_beside_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / "a").write_text("old")
    with into_folder(tmp_path) as partial:
        (partial / "a").write_text("new")
        (partial / "base").mkdir()
        (partial / "base" / "b").write_text("new too")
        assert (tmp_path / "a").read_text() == "old"
    assert files(tmp_path) == {"a": "new", "base/b": "new too", "theirs": "kept"}


def test_what_a_killed_process_left_is_removed_or_put_back(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-4.partial").mkdir()
    (tmp_path / ".checkpoint-2.old.partial").mkdir()
    (tmp_path / ".checkpoint-2.old.partial" / "a").write_text("older")
    (tmp_path / ".checkpoint-3.old.partial").mkdir()
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "a").write_text("newer")
    remove_leftovers(tmp_path)
    assert files(tmp_path) == {"checkpoint-2/a": "older", "checkpoint-3/a": "newer"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3"]


def test_files_are_for_whom_the_umask_lets_read_them_and_other_names_keep_their_mode(tmp_path: Path) -> None:
    linked = tmp_path / "source"
    linked.write_text("weights")
    linked.chmod(0o600)
    plain = tmp_path / "plain"
    plain.write_text("x")
    with whole_folder(tmp_path / "made" / "model") as folder:
        private = folder / "private"
        private.write_text("weights")
        private.chmod(0o600)
        os.link(linked, folder / "linked")
    made = tmp_path / "made" / "model"
    assert (made / "private").stat().st_mode & 0o777 == plain.stat().st_mode & 0o777
    assert linked.stat().st_mode & 0o777 == 0o600
