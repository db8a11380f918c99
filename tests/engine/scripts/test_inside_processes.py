"""What looks on inside the processes of a command, whatever they do to be found or not to be found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.engine.scripts import loops
from tests.engine.scripts.watched import INSIDE, plain, watch

BASE: str = getattr(sys, "_base_executable", sys.executable)
"""The Python that the tests' own environment was made of: another one for the script."""


def _script(folder: Path, text: str, name: str = "train.py") -> list[str]:
    (folder / name).write_text(text)
    return [name]


def test_a_python_of_its_own_with_modules_of_our_names_runs_as_it_does_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    user = tmp_path / f"user/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    own.mkdir()
    user.mkdir(parents=True)
    (own / "sitecustomize.py").write_text("import builtins; builtins.OWN = __file__\n")
    (user / "usercustomize.py").write_text("import builtins; builtins.USER = __file__\n")
    for name in ("engine", "tui", "config", "frameworks", "wire", "json", "socket"):
        (tmp_path / f"{name}.py").write_text(f"here = {name!r}\n")
    words = _script(
        tmp_path,
        "import engine, tui, config, frameworks, wire, json, socket, sitecustomize, sys\n"
        "print([each.here for each in (engine, tui, config, frameworks, wire, json, socket)])\n"
        "print(OWN, USER, sitecustomize.__file__, [path for path in sys.path if 'inside' in path])\n"
        "print(sys.argv, sorted({name.partition('.')[0] for name in sys.modules} - {'_traintop_inside'}))\n",
    )
    environment = {"PYTHONPATH": str(own), "PYTHONUSERBASE": str(tmp_path / "user")}
    alone = plain(words, tmp_path, python=BASE, **environment)
    seen = watch(words, tmp_path, python=BASE, **environment)
    assert alone.returncode == 0, alone.stderr
    assert "usercustomize.py" in alone.stdout
    assert (seen.out, seen.err, seen.code) == (alone.stdout, alone.stderr, 0)
    assert not seen.told  # without torch there is nothing to tell
    assert (tmp_path / "wire.python").exists()


def test_a_sitecustomize_that_fails_fails_as_it_does_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import nothing_of_this_name\n")
    alone = plain(["-c", "pass"], tmp_path, python=BASE, PYTHONPATH=str(tmp_path))
    seen = watch(["-c", "pass"], tmp_path, python=BASE, PYTHONPATH=str(tmp_path))
    assert "nothing_of_this_name" in alone.stderr
    assert (seen.err, seen.code) == (alone.stderr, 0)
    assert (tmp_path / "wire.python").exists()


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_a_python_that_looks_for_nothing_is_not_watched(flag: str, tmp_path: Path) -> None:
    seen = watch([flag, "-c", "print(1)"], tmp_path, python=BASE)
    assert (seen.out, seen.err, seen.code) == ("1\n", "", 0)
    assert not (tmp_path / "wire.python").exists()


def test_a_script_that_becomes_another_is_followed_and_torch_is_as_it_was(tmp_path: Path) -> None:
    _script(tmp_path, loops.plain_loop())
    words = _script(
        tmp_path,
        "import os, sys, torch\n"
        "print(torch.__spec__.loader.__class__.__name__, torch.__loader__ is torch.__spec__.loader, flush=True)\n"
        "os.execv(sys.executable, [sys.executable, 'train.py'])\n",
        "first.py",
    )
    seen = watch(words, tmp_path)
    assert (seen.out.splitlines()[0], seen.code) == ("SourceFileLoader True", 0)
    first, second = seen.told
    assert [each["kind"] for each in first] == ["hello"]
    assert first[0]["pid"] == second[0]["pid"]
    assert len(seen.updates()) == 10


def test_without_a_reader_the_script_goes_on(tmp_path: Path) -> None:
    words = _script(tmp_path, loops.plain_loop())
    left = plain(words, tmp_path, TRAINTOP_WIRE=str(tmp_path / "nobody"), PYTHONPATH=str(INSIDE))
    assert (left.returncode, left.stderr) == (0, "")
    assert len(left.stdout.splitlines()) == 10


RANKS = """
import os, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
dist.init_process_group("gloo")
torch.manual_seed(0)
data = TensorDataset(torch.randn(32, 8), torch.randn(32, 1))
def train(model, optimizer):
    for x, y in DataLoader(data, batch_size=4, sampler=DistributedSampler(data)):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
losses = []
inner = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
model = DistributedDataParallel(inner)
train(model, torch.optim.AdamW(model.parameters()))
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
train(model, torch.optim.AdamW(model.parameters()))
open(f"losses-{dist.get_rank()}", "w").write(" ".join(map(repr, losses)))
dist.destroy_process_group()
"""


def test_both_ranks_under_torchrun_are_seen(tmp_path: Path) -> None:
    _script(tmp_path, RANKS)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    seen = watch(words, tmp_path, OMP_NUM_THREADS="1")
    assert seen.code == 0, seen.err
    assert not seen.of("off")
    ranks = {messages[0]["rank"]: messages for messages in seen.told if "rank" in messages[0]}
    assert set(ranks) == {"0", "1"}
    for rank, messages in ranks.items():
        losses = [float(loss) for loss in (tmp_path / f"losses-{rank}").read_text().split()]
        rows = [row for each in messages if each["kind"] == "updates" for row in each["rows"]]
        assert [row["loss"] for row in rows] == losses
        assert {row["samples"] for row in rows} == {4}
        assert all(row["grad_norm"] is not None for row in rows[:4])
        replicated, sharded = (each for each in messages if each["kind"] == "model")
        assert (replicated["model"], replicated["rank"], replicated["world_size"]) == (
            "DistributedDataParallel", int(rank), 2,
        )  # fmt: skip
        assert sharded["trained"] == replicated["trained"] == 8 * 16 + 16 + 16 + 1
        held = [each["held"]["weights"] for each in messages if each["kind"] == "updates"]
        assert held[0] == 4 * replicated["trained"]
    launcher = [messages for messages in seen.told if "rank" not in messages[0]]
    assert [each["kind"] for each in launcher[0]] == ["hello", "end"]


@pytest.mark.slow
def test_an_out_of_memory_in_a_spawned_worker_is_one_of_the_script(tmp_path: Path) -> None:
    words = _script(
        tmp_path,
        "import torch, torch.multiprocessing as mp\n"
        "def work(rank):\n"
        "    raise torch.OutOfMemoryError('CUDA out of memory.')\n"
        "if __name__ == '__main__':\n"
        "    mp.spawn(work, nprocs=2)\n",
    )
    seen = watch(words, tmp_path)
    assert seen.code == 1
    ends = [each for each in seen.of("end") if "error" in each]
    assert ends[-1]["out_of_memory"]
    assert os.path.basename(seen.told[0][0]["argv"][0]) == "train.py"
