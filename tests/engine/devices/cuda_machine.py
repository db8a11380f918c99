"""`python -m tests.engine.devices.cuda_machine …`: traintop on a machine whose GPUs compute on the CPU.

The cards are those of the stand-in for NVML's library (`tests.engine.telemetry.nvml_machine`). What CUDA would show of
them is made here as CUDA does it: CUDA_VISIBLE_DEVICES by ordinal or UUID, read when the first asks, and
CUDA_DEVICE_ORDER (the largest card counts as the fastest). A context takes 500 MiB of its card, and the process is in
NVML's list from then on; a card without that room, or that another process has for itself, refuses as CUDA does.
Everything of torch that is not told to be on a card is torch's own, so runs train for real.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CONTEXT_MIB = 500
MIB = 2**20


class _Cards:
    def __init__(self) -> None:
        self.contexts: set[int] = set()
        self._shown: list[dict[str, str]] | None = None

    def shown(self) -> list[dict[str, str]]:
        """The cards that CUDA shows, by ordinal."""
        if self._shown is None:
            cards = _read("card")
            if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
                cards.sort(key=lambda card: -int(card["total"]))
            self._shown = list(_visible(cards, os.environ.get("CUDA_VISIBLE_DEVICES")))
        return self._shown

    def properties(self, device: Any) -> SimpleNamespace:
        card = self.shown()[_index(device)]
        return SimpleNamespace(
            name=card["name"],
            uuid=card["uuid"].removeprefix("GPU-"),
            major=8,
            minor=0,
            total_memory=(int(card["total"]) - int(card["reserved"])) * MIB,
            multi_processor_count=20,
        )

    def make_context(self, index: int) -> None:
        if index in self.contexts:
            return
        number = self.shown()[index]["number"]
        card = next(card for card in _read("card") if card["number"] == number)
        others = [process for process in _read("process") if process["number"] == number]
        if card["mode"] != "0" and others:
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors …")
        if int(card["used"]) + CONTEXT_MIB > int(card["total"]):
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported …")
        self.contexts.add(index)
        state, new = _state(), _state().with_suffix(".context")
        used = f"used={card['used']}"
        lines = [
            line.replace(f"|{used}|", f"|used={int(card['used']) + CONTEXT_MIB}|") if _is(line, number) else line
            for line in state.read_text(encoding="utf-8").splitlines()
        ]
        lines.append(f"process {number} pid={os.getpid()}|kind=compute|used={CONTEXT_MIB}")
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        new.replace(state)


def _is(line: str, number: str) -> bool:
    return line.startswith(f"card {number} ")


def _state() -> Path:
    return Path(os.environ["NVML_STUB_STATE"])


def _read(kind: str) -> list[dict[str, str]]:
    found = []
    for line in _state().read_text(encoding="utf-8").splitlines():
        words = line.split(" ", 2)
        if words[0] == kind:
            values = dict(part.partition("=")[::2] for part in words[2].split("|"))
            found.append({**values, "number": words[1]})
    return found


def _visible(cards: list[dict[str, str]], variable: str | None) -> Any:
    if variable is None:
        yield from cards
        return
    for entry in variable.split(","):
        found = [
            card
            for place, card in enumerate(cards)
            if (entry.isdecimal() and place == int(entry)) or (entry and card["uuid"].startswith(entry))
        ]
        if len(found) != 1:  # CUDA shows those before the first that it does not know
            return
        yield found[0]


def _index(device: Any) -> int:
    return device if isinstance(device, int) else getattr(device, "index", None) or 0


class _Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self._at = 0.0

    def record(self) -> None:
        self._at = time.perf_counter()

    def elapsed_time(self, end: _Event) -> float:
        return 1000 * (end._at - self._at)


def pretend() -> _Cards:
    """Have this process's torch show the machine's cards."""
    import torch

    from engine.devices.cuda import CudaDevice

    cards = _Cards()
    cuda: Any = torch.cuda
    cuda.is_available = lambda: bool(cards.shown())
    cuda.device_count = lambda: len(cards.shown())
    cuda.get_device_properties = cards.properties
    cuda.memory_stats = lambda device=None: {}
    cuda.memory_reserved = lambda device=None: 0
    for name in ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        setattr(cuda, name, lambda *_: None)
    cuda.Event = _Event
    torch.version.cuda = "12.6"
    torch._C._cuda_hasPrimaryContext = lambda index: index in cards.contexts  # type: ignore[attr-defined]
    begin, context = CudaDevice.__init__, CudaDevice.create_context

    def on_the_cpu(self: CudaDevice, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.torch_device = torch.device("cpu")

    def create_context(self: CudaDevice) -> None:
        cards.make_context(self.index)
        context(self)

    CudaDevice.__init__, CudaDevice.create_context = on_the_cpu, create_context  # type: ignore[method-assign, assignment]
    return cards


if __name__ == "__main__":
    from tui.cli import main

    pretend()
    sys.exit(main(sys.argv[1:]))
