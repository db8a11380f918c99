"""The rated review sentences inside the sdist of vaderSentiment -> two CSV files with a text and a label column."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zlib
from pathlib import Path

from engine.fetch_pip import FetchError

CSV_FILES = ("snippets.csv", "snippets-5.csv")
LEVELS = 5
MIN_RATING = 1.0
"""Ratings nearer to 0 than this say neither negative nor positive; the two classes leave them out."""

_INNER = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_FILES = (
    "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
)
_MAX_SIZE = 64 * 2**20  # bytes of one member; the largest has 1.4 MB

Row = tuple[float, str]
"""Mean of the human ratings in [-4, 4], and the sentence."""


def write_snippets(archive: Path, folder: Path) -> None:
    """Write `CSV_FILES` and the licence into `folder`. Nothing else is unpacked. Raises `FetchError`, `OSError`."""
    try:
        rows, licence = _read(archive)
    except (KeyError, ValueError, EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError):
        raise FetchError(f"{archive.name} does not hold the sentences that were expected: fetch again.") from None
    _write(folder / CSV_FILES[0], two_classes(rows))
    _write(folder / CSV_FILES[1], five_levels(rows))
    (folder / "LICENSE.txt").write_text(licence, encoding="utf-8")


def _read(archive: Path) -> tuple[list[Row], str]:
    rows: list[Row] = []
    with tarfile.open(archive, "r:gz") as outer:
        licence = _member(outer, "vaderSentiment-2.5/LICENSE.txt").decode("utf-8")
        with tarfile.open(fileobj=io.BytesIO(_member(outer, _INNER)), mode="r:gz") as inner:
            for name in _FILES:
                rows += parse(_member(inner, name).decode("utf-8"))
    return rows, licence


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.getmember(name)
    opened = archive.extractfile(found) if found.size <= _MAX_SIZE else None
    if opened is None:
        raise KeyError(name)
    return opened.read()


def parse(text: str) -> list[Row]:
    """Lines of `id TAB rating TAB sentence`. Raises `ValueError` on any other line."""
    rows = []
    for line in text.splitlines():
        _, rating, sentence = line.split("\t")
        rows.append((float(rating), sentence.strip()))
    return rows


def two_classes(rows: list[Row]) -> list[tuple[str, str]]:
    """Sentence and `negative` or `positive`, of the rows that are rated clearly."""
    clear = [(rating, sentence) for rating, sentence in rows if abs(rating) >= MIN_RATING]
    return [(sentence, "positive" if rating > 0 else "negative") for rating, sentence in clear]


def five_levels(rows: list[Row]) -> list[tuple[str, str]]:
    """Sentence and level 1 … 5 by quintile of the rating; equal ratings share a level."""
    ordered = sorted(rating for rating, _ in rows)
    borders = [ordered[len(ordered) * i // LEVELS] for i in range(1, LEVELS)]
    return [(sentence, str(1 + sum(rating >= border for border in borders))) for rating, sentence in rows]


def _write(file: Path, rows: list[tuple[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
