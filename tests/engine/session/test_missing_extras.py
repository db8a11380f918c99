"""Plans and sweeps in a plain installation, whose extras are not there: a fresh process that cannot import them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

WITHOUT = """
import importlib.machinery, sys
absent = {"peft", "torchao"}
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in absent else real(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""

LORA = "--lora-rank needs the package peft: pip install 'traintop[lora]', or use --lora-rank 0."
EIGHT_BIT = (
    "--optimizer adamw-8bit needs the package torchao: pip install 'traintop[optim8bit]', or use --optimizer adamw."
)


def without_extras(folder: Path, code: str) -> str:
    """What a process prints that has no extras. Fails where it does not end well."""
    environment = {**os.environ, "TRAINTOP_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


PLANS = """
import json
import pytest

from engine.contract.config import RunConfig
from engine.plans.course import NAMED, named_plan
from tests.engine.session.test_forecasts import forecasts_of
forecasts = forecasts_of(list)
rows = []
base = RunConfig(model="bert-tiny", samples=16, seq_len=16, device="virtual:a100-40gb")
for name in [name for name, plan in NAMED.items() if plan.job == base.job]:
    given = ("model", "samples", "seq_len", "device")
    for run in forecasts.foretell(named_plan(name, base, "small", given=given)).runs:
        rows.append([name, run.label, run.skip, run.by_forecast, run.foretold is not None])
print(json.dumps(rows))
"""


@pytest.mark.slow
def test_every_plan_is_forecast_and_passes_over_what_wants_for_a_package(tmp_path: Path) -> None:
    rows = json.loads(without_extras(tmp_path, PLANS))
    passed_over = [(name, label, skip) for name, label, skip, by_forecast, _ in rows if skip and not by_forecast]
    assert passed_over == [
        ("bert-large", "8-bit AdamW + checkpointing", EIGHT_BIT),
        ("bert-large", "LoRA rank 8", LORA),
    ]
    assert all(is_told for *_, skip, by_forecast, is_told in rows if not skip or by_forecast)
    assert {name for name, *_ in rows} >= {"batch-size", "accumulation", "accuracy", "checkpointing", "precision"}


SWEEP = """
import sys
from tui import cli
sizes = ["--samples", "8", "--seq-len", "16", "--batch-size", "4"]
sys.exit(cli.main(["sweep", "--lora-rank", "0,4", "--optimizer", "adamw,adamw-8bit", *sizes]))
"""


def test_a_sweep_says_how_to_get_what_it_wants_for_and_goes_on(tmp_path: Path) -> None:
    lines = without_extras(tmp_path, SWEEP).splitlines()
    assert sum("  completed" in line for line in lines) == 1
    assert sum(LORA in line for line in lines) == 2
    assert sum(EIGHT_BIT in line for line in lines) == 1
    assert lines[-1].endswith("1 completed, 3 refused.")
    assert "Traceback" not in "\n".join(lines)
