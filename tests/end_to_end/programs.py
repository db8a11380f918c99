"""How the end-to-end tests and the benchmarks start the program: from this working tree, without the network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "tui.cli")
SMALL = ("--device", "cpu", "--model", "bert-tiny", "--batch-size", "2", "--samples", "8", "--seq-len", "16")
"""A run of four updates."""
LONG = (*SMALL, "--samples", "200000")
"""A run that lasts longer than any test: the last one of a flag counts."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """What is added to the environment: a home of its own, and a hub that is never asked."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        "TRAINTOP_HOME": str(home),
        "HF_HOME": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": path,
        **more,
    }


def traintop(*words: str, env: dict[str, str], timeout_s: float = 180.0) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal to its end; standard input is empty."""
    return subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
