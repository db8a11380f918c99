"""Real trainings with PyTorch as commands: what the instrument tells, and the record that comes of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from engine.contract.events import MemoryMoment, RanksStarted, ScriptKnown, UpdateDone
from engine.contract.records import Outcome, Phase
from engine.scripts.stopping import Patience
from tests.engine.scripts.running import Runs, python

_LOOP = """
import sys, torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for n, (x, y) in enumerate(DataLoader(TensorDataset(torch.randn(40, 8), torch.randint(0, 4, (40,))), batch_size=4)):
    if n == 7: raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.43 GiB of which 1.20 GiB is "
        "free. Including non-PyTorch memory, this process has 6 GiB memory in use.")
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(repr(loss.item()))
"""


def test_out_of_memory_in_a_real_training(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(_LOOP)
    runs = python(str(path))
    record = runs.execute()
    assert (record.outcome, record.failed_phase) == (Outcome.OUT_OF_MEMORY, Phase.FORWARD)
    assert record.message == (
        "Out of memory in forward of update 8: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
        "capacity of 7.43 GiB of which 1.20 GiB is free."
    )
    assert [update.loss for update in runs.of(UpdateDone)] == [float(line) for line in runs.printed[:7]]
    assert (record.updates, record.n_parameters) == (7, 36)
    assert record.script is not None
    assert (record.script.exit_code, record.script.optimizer, record.script.model) == (1, "AdamW", "Linear")
    assert (record.script.batch_size, record.script.gradient_accumulation_steps) == (4, 1)
    assert record.script.held["weights"] == record.script.held["gradients"] == 4 * 36


_ENDLESS = """
import torch
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
done = 0
try:
    while True:
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        done += 1
except KeyboardInterrupt:
    print("interrupted in update", done + 1)
"""


def test_a_script_makes_just_the_updates_that_it_is_run_for(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(_ENDLESS)
    runs = python(str(path), patience=Patience(), max_updates=7)
    record = runs.execute()
    assert (record.outcome, record.updates) == (Outcome.COMPLETED, 7)
    assert runs.printed == ["interrupted in update 7"]  # in the step that ends it
    assert None not in [update.loss for update in runs.of(UpdateDone)]


_RANKS = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for update in range(6):
    loss = model(torch.randn(4, 8)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_both_ranks_of_torchrun_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "ranks.py"
    path.write_text(_RANKS)
    runs = Runs(
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(path),
        patience=Patience(),
    )  # fmt: skip
    runs.run.environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    record = runs.execute()
    assert (record.outcome, record.message) == (Outcome.COMPLETED, None)
    [started] = runs.of(RanksStarted)
    assert [rank.rank for rank in started.ranks] == [0, 1]
    assert len({rank.pid for rank in started.ranks}) == 2
    told = runs.of(UpdateDone)
    assert [update.update for update in told] == list(range(1, 7))
    assert {len(update.ranks) for update in told} == {2}
    assert len(record.peak_used_by_rank) == 2
    assert record.script is not None
    assert record.script.n_processes == 2
    assert runs.of(ScriptKnown)[-1].n_processes == 2
    assert [event.moment for event in runs.of(MemoryMoment)] == ["model", "trained"]
