"""`traintop fetch`: words, exit codes, and what goes to which stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine import fetch as fetching
from engine.events import EvalDone
from engine.fetch import FETCHABLE
from engine.fetch_pip import FetchError
from tui import cli
from tui.transcript import Transcript


def _write(archive: Path, folder: Path) -> None:
    for name in ("snippets.csv", "snippets-5.csv"):
        (folder / name).write_text("text,label\n")


def _replace_download(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    def download(requirement: str, sha256: str, folder: Path, **_: object) -> Path:
        if error:
            raise error
        archive = folder / "archive"
        archive.write_bytes(b"")
        return archive

    def fetch(name: str, **more: object) -> Path:
        return original(name, download=download, **more)  # type: ignore[arg-type]

    original = fetching.fetch
    monkeypatch.setattr(fetching, "fetch", fetch)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of no bytes
    monkeypatch.setitem(FETCHABLE, "snippets", replace(FETCHABLE["snippets"], sha256=empty, install=_write))


def test_the_folder_goes_to_stdout_and_the_licence_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _replace_download(monkeypatch)
    assert cli.main(["fetch", "snippets"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{fetching.folder_of('snippets')}\n"
    assert "downloading vaderSentiment==2.5 (2.5 MB) with pip" in err
    assert "Licence: MIT" in err
    assert cli.main(["fetch", "snippets"]) == 0
    assert "is already in" in capsys.readouterr().err


def test_a_failure_is_one_sentence_and_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _replace_download(monkeypatch, FetchError("the disk is \x1b[2Jfull."))
    assert cli.main(["fetch", "snippets"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "traintop fetch: the disk is full."


def test_an_interrupt_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_download(monkeypatch, KeyboardInterrupt())
    assert cli.main(["fetch", "snippets"]) == 130
    assert fetching.fetched("snippets") is None


@pytest.mark.parametrize("words", [["fetch"], ["fetch", "everything"], ["fetch", "snippets", "minilm"]])
def test_other_names_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_language_models_score_is_told_as_perplexity() -> None:
    done = EvalDone(run_id=1, epoch=1.0, update=5, accuracy=None, loss=2.0, n_samples=3, eval_s=0.1, t=1.0)
    assert Transcript().lines(done) == ["{'eval_loss': 2.0, 'eval_perplexity': 7.3891, 'epoch': 1.0}"]
    classes = EvalDone(run_id=1, epoch=1.0, update=5, accuracy=0.5, loss=1e9, n_samples=3, eval_s=0.1, t=1.0)
    assert "perplexity" not in Transcript().lines(classes)[0]
