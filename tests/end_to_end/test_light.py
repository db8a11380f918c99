"""What a command imports and what its user reads: nothing that it does not need, nothing that is not ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.programs import ROOT, SMALL, environment

_PROGRAM = """
import sys
from tui.cli import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""
NEEDLESS = {"datasets", "peft", "torchao", "bitsandbytes", "sklearn", "pandas", "pyarrow"}
OURS = re.compile(r"loading (PyTorch|transformers) …| *\d+ %  update \d+/\d+ .*")


def _command(home: Path, *words: str) -> tuple[set[str], list[str]]:
    """Top-level modules that were imported, and the lines of stderr."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        cwd=ROOT,
        env={**os.environ, **environment(home, OMP_NUM_THREADS="1")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()), done.stderr.splitlines()


def test_a_forecast_imports_what_it_needs_and_says_nothing_beside_its_table(tmp_path: Path) -> None:
    imported, said = _command(tmp_path, "forecast", "--model", "bert-tiny", "--gpu", "tesla-p4")
    assert {"torch", "transformers"} <= imported
    assert not imported & NEEDLESS
    assert said == []


def test_what_loud_libraries_print_goes_to_the_log(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    pytest.importorskip("peft")
    needy = ("--optimizer", "adamw-8bit", "--lora-rank", "4")
    imported, said = _command(tmp_path, "forecast", "--model", "bert-tiny", "--gpu", "tesla-p4", *needy)
    assert {"torchao", "peft"} <= imported
    assert said == []


def test_a_run_imports_what_it_needs_and_says_what_is_ours(tmp_path: Path) -> None:
    imported, said = _command(tmp_path, "run", *SMALL)
    assert not imported & NEEDLESS
    assert said
    assert [line for line in said if not OURS.fullmatch(line)] == []
