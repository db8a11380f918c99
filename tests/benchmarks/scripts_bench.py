"""What the instrument inside a user's own script costs: the same script with it and without, block by block.

Two processes train beside each other in turns, so that both have the same machine; what one tells is read as traintop
reads it. Batch 1 of small models is where a hook costs most.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.figures import Figure, alternate, ratio

INSIDE = Path(__file__).resolve().parents[2] / "engine/scripts/inside"
Pair = tuple[float, float]
_KEPT_HEAP = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
"""Else glibc gives each step's gradients back to the system and asks for them again, as the heap's last block has it:
three times the step's time, or not, by chance."""

SCRIPT = """
import sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.set_num_threads(1)
torch.manual_seed(0)
MODEL
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
def train(n):
    for x, y in DataLoader(TensorDataset(inputs[:n], labels[:n]), batch_size=1):
        loss = loss_of(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
inputs, labels = inputs.repeat(13, *[1] * (inputs.dim() - 1)), labels.repeat(13, *[1] * (labels.dim() - 1))
train(100)
looking = getattr(sys.modules.get("_traintop_inside"), "_looking", None)
print(flush=True)
for line in sys.stdin:
    if looking is not None:
        looking.is_on = line == "1\\n"
    wall, cpu = time.perf_counter(), time.thread_time()
    train(25)
    print(25 / (time.perf_counter() - wall), 25 / (time.thread_time() - cpu), flush=True)
"""
MODELS = {
    "MLP": """
model = nn.Sequential(*(each for _ in range(3) for each in (nn.Linear(512, 512), nn.ReLU())), nn.Linear(512, 4))
inputs, labels = torch.randn(8, 512), torch.randint(0, 4, (8,))
def loss_of(x, y):
    return nn.functional.cross_entropy(model(x), y)
""",
    "two-layer decoder": """
class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(256, 128)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(128, 4, 512, 0.1, batch_first=True) for _ in range(2))
        self.head = nn.Linear(128, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(64))
    def forward(self, ids):
        hidden = self.embedding(ids)
        for layer in self.layers:
            hidden = layer(hidden, self.mask)
        return self.head(hidden)
model = Decoder()
inputs = labels = torch.randint(0, 256, (8, 64))
def loss_of(x, y):
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
""",
}


def measure(*, full: bool = False, rounds: int | None = None) -> Iterator[Figure]:
    """Samples a second with the instrument ÷ without it, by the clock and by the thread's own CPU time.

    Blocks are short, so that what else the machine does meets both, and as long as it takes until there
    is news to tell.
    Once between processes, of which several pairs are needed, as each has its luck with where its memory lies; once in
    one process that looks on and looks away in turns, which leaves out no more than the calls that then do nothing.
    """
    for name, model in MODELS.items():
        text = SCRIPT.replace("MODEL", model)
        between: list[tuple[Pair, Pair]] = []
        within: list[tuple[Pair, Pair]] = []
        for first in (True, False) * (4 if full else 2):  # the later of two processes has other luck
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                (folder / "train.py").write_text(text)
                scripts = {each: stack.enter_context(_Script(folder, watched=each)) for each in (first, not first)}
                with_it, without = scripts[True], scripts[False]
                between += _turns(with_it.train, without.train, rounds or 40)
                within += _turns(with_it.train, with_it.train_unwatched, rounds or 40)
        note = f"batch 1, {1e3 / statistics.median(theirs[0] for _, theirs in between):.1f} ms a step"
        for how, pairs in (("with ÷ without", between), ("on ÷ off in one process", within)):
            for index, what in enumerate(("samples/s", "samples per CPU second")):
                yield ratio(
                    f"instrument {how}, {name}, {what}",
                    [ours[index] for ours, _ in pairs],
                    [theirs[index] for _, theirs in pairs],
                    0.98,
                    note,
                )


def _turns(ours: Callable[[], Pair], theirs: Callable[[], Pair], rounds: int) -> list[tuple[Pair, Pair]]:
    return list(zip(*alternate(ours, theirs, rounds), strict=True))


class _Script:
    """One process that trains when it is asked to."""

    def __init__(self, folder: Path, *, watched: bool) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **_KEPT_HEAP}
        self._listener = socket.socket(socket.AF_UNIX)
        if watched:
            wire = str(folder / "wire")
            self._listener.bind(wire)
            self._listener.listen()
            threading.Thread(target=self._read, daemon=True).start()
            environment |= {"TRAINTOP_WIRE": wire, "PYTHONPATH": str(INSIDE)}
        self._process = subprocess.Popen(
            [sys.executable, "train.py"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._ask, self._answers = self._process.stdin, self._process.stdout
        self._answers.readline()

    def train(self) -> Pair:
        """Samples a second, and a second of CPU time, of a block."""
        return self._block(is_on=True)

    def train_unwatched(self) -> Pair:
        """The same while the instrument looks away."""
        return self._block(is_on=False)

    def _block(self, *, is_on: bool) -> Pair:
        self._ask.write(f"{int(is_on)}\n")
        self._ask.flush()
        by_clock, by_cpu = map(float, self._answers.readline().split())
        return by_clock, by_cpu

    def _read(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile() as lines:
            for line in lines:
                json.loads(line)

    def __enter__(self) -> _Script:
        return self

    def __exit__(self, *error: object) -> None:
        self._ask.close()
        self._process.wait()
        self._answers.close()
        self._listener.close()
