"""The lecture's four batch sizes on a Tesla P4, as traintop and others say them before; each in a process of its own.

What is not installed is named. To try all without touching this environment: `pip install --no-deps --target DIR …`
and `PYTHONPATH=DIR make bench ARGS=rivals`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from statistics import mean

from tests.benchmarks.figures import Figure
from tests.benchmarks.rivals import BATCHES, RIVALS, Rival
from tests.engine.forecast.test_lecture import TABLE

LIMIT_S = 300
"""For the four answers of one of them."""


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """The mean error of each, and a table of what it said."""
    rows = {changes["batch_size"]: used for changes, used in TABLE if set(changes) == {"batch_size"}}
    measured = [rows[batch] for batch in BATCHES]
    print(_line("MiB at batch size", [str(batch) for batch in BATCHES], "s each"), file=sys.stderr)
    print(_line("measured", [f"{used:,}" for used in measured], ""), file=sys.stderr, flush=True)
    for rival in RIVALS:
        if find_spec(rival.module) is None:
            print(f"{rival.name:<28} not installed: pip install {rival.package}", file=sys.stderr)
            continue
        said, seconds, failed = _ask(rival)
        errors = [(mib / used - 1) * 100 for mib, used in zip(said, measured, strict=False)]
        cells = [f"{mib:,.0f} ({error:+.1f} %)" for mib, error in zip(said, errors, strict=True)]
        took = "–" if not seconds else f"{_short(min(seconds))} … {_short(max(seconds))}"
        note = f"{failed}. {rival.note}" if failed else rival.note
        print(_line(rival.name, cells, took, note), file=sys.stderr, flush=True)
        if errors:
            yield Figure(
                name=f"{rival.name} ÷ lecture's memory, mean |error|",
                value=mean(map(abs, errors)),
                unit="%",
                goal=2.5 if rival.name == "traintop" else None,
                at_most=True,
                rounds=errors,
                note=failed or rival.note,
                details={f"mib_{batch}": mib for batch, mib in zip(BATCHES, said, strict=False)},
            )


def _ask(rival: Rival) -> tuple[list[float], list[float], str]:
    """What it said, the seconds that each answer took, and why there are no more; empty where it said all."""
    words = [sys.executable, "-m", "tests.benchmarks.rivals", rival.name]
    failed = ""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
        printed = done.stdout
        if done.returncode:
            failed = f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    except subprocess.TimeoutExpired as over:
        printed = (over.stdout or b"").decode()
        failed = f"stopped after {LIMIT_S} s"
    answers = [json.loads(line) for line in printed.splitlines()]
    return [answer["mib"] for answer in answers], [answer["seconds"] for answer in answers], failed


def _short(seconds: float) -> str:
    return "< 0.01" if seconds < 0.01 else f"{seconds:.2g}"


def _line(name: str, cells: list[str], seconds: str, note: str = "") -> str:
    columns = "".join(f"{cell:>18}" for cell in [*cells, *[""] * (len(BATCHES) - len(cells))])
    return f"{name:<28}{columns}  {seconds:>15}  {note}".rstrip()
