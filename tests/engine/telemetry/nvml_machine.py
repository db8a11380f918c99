"""A machine with NVIDIA cards, as the stand-in for the driver's library shows it, which a test can change any time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIBRARY = "libnvidia-ml.so.1"
_SOURCE = Path(__file__).with_name("nvml_stub.c")
_NAMES = ("Tesla P4", "NVIDIA H200", "NVIDIA A100-SXM4-40GB", "Tesla T4")
_TOTALS = (7611, 143771, 40960, 15360)


def why_no_library() -> str | None:
    """Why the stand-in cannot be built here; None where it can."""
    if not sys.platform.startswith("linux"):
        return "the stand-in driver library is built for Linux only"
    return None if _compiler() else "no C compiler (cc, gcc or clang) to build the stand-in driver library"


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def build(folder: Path, *flags: str) -> Path:
    """The library in `folder`, where pynvml's own loader finds it by LD_LIBRARY_PATH."""
    compiler = _compiler()
    assert compiler is not None
    command = [compiler, "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", *flags]
    subprocess.run([*command, f"-Wl,-soname,{LIBRARY}", "-o", folder / LIBRARY, _SOURCE], check=True)
    return folder


def machine(folder: Path, n_cards: int = 0) -> Machine:
    """A machine with `n_cards` idle cards, seen with `Machine.environment`. Skips the test where none can be built."""
    if why := why_no_library():
        pytest.skip(why)
    made = Machine(build(folder), folder / "cards.txt")
    for index in range(n_cards):
        made.card(index)
    return made.write()


class Machine:
    """Cards, slices, processes and faults; `write` lets every program that has the library see them.

    Figures are NVML's own: MiB, percent, milliwatts, MHz, millijoules. See `nvml_stub.c` for their names.
    """

    def __init__(self, library: Path, state: Path) -> None:
        self.environment = {"LD_LIBRARY_PATH": str(library), "NVML_STUB_STATE": str(state)}
        self.cards: dict[int, dict[str, Any]] = {}
        self.slices: list[tuple[int, dict[str, Any]]] = []
        self.processes: list[tuple[int, dict[str, Any]]] = []
        self.faults: dict[tuple[int, str], int] = {}
        self.lost: set[int] = set()
        self.gone: set[int] = set()
        self._state = state

    def card(self, index: int, **figures: Any) -> None:
        """Add a card, or change some figures of it."""
        self.cards[index] = self.cards.get(index, usual(index)) | figures

    def slice(self, index: int, **figures: Any) -> None:
        """Cut a MIG device from a card."""
        self.slices.append((index, figures))

    def process(self, index: int, pid: int, kind: str = "compute", **figures: Any) -> None:
        """Put a process on a card."""
        self.processes.append((index, {"pid": pid, "kind": kind} | figures))

    def write(self) -> Machine:
        """Let it be seen."""
        lines = [_line("card", index, figures) for index, figures in sorted(self.cards.items())]
        lines += [_line("slice", index, figures) for index, figures in self.slices]
        lines += [_line("process", index, figures) for index, figures in self.processes]
        lines += [
            _line("fault", index, {"function": function, "code": code})
            for (index, function), code in self.faults.items()
        ]
        lines += [f"lost {index}" for index in self.lost] + [f"gone {index}" for index in self.gone]
        new = self._state.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(new, self._state)
        return self


def usual(index: int) -> dict[str, Any]:
    """A healthy, idle card that knows every figure."""
    kind = index % len(_NAMES)
    return {
        "name": _NAMES[kind],
        "uuid": f"GPU-{index:08d}-aaaa-bbbb-cccc-000000000000",
        "bus": f"00000000:{0x1B + 8 * index:02X}:00.0",
        "total": _TOTALS[kind],
        "used": 3,
        "reserved": 3,
        "gpu": 0,
        "memory": 0,
        "power": 21_000,
        "limit": 75_000 + 100_000 * kind,
        "celsius": 31 + index,
        "sm": 345,
        "mem": 3003,
        "fan": 30,
        "throttle": 1,
        "ecc": 0,
        "energy": 1_000_000 + index,
        "mode": 0,
    }


def _line(kind: str, index: int, figures: dict[str, Any]) -> str:
    return f"{kind} {index} " + "|".join(f"{name}={value}" for name, value in figures.items())
