"""What looks on inside a script: it sees what happens, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.scripts.watched import plain, watch

LOOP = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Dropout(0.1), torch.nn.Linear(64, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
data = TensorDataset(torch.randn(40, 32), torch.randint(0, 4, (40,)))
for epoch in range(2):
    for n, (x, y) in enumerate(DataLoader(data, batch_size=8, shuffle=True, num_workers=WORKERS)):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(repr(loss.item()), repr(norm.item()), flush=True)
    model.eval()
    with torch.no_grad():
        for x, y in DataLoader(data, batch_size=20):
            model(x)
    model.train()
"""


def _script(folder: Path, text: str, name: str = "train.py") -> list[str]:
    (folder / name).write_text(text)
    return [name]


def test_a_plain_loop_is_seen_whole_and_computes_what_it_computes_alone(tmp_path: Path) -> None:
    words = _script(tmp_path, LOOP.replace("WORKERS", "0"))
    alone, seen = plain(words, tmp_path), watch(words, tmp_path)
    assert (seen.code, seen.out, seen.err) == (0, alone.stdout, alone.stderr)
    updates = seen.updates()
    assert [each["update"] for each in updates] == list(range(1, 11))
    printed = [tuple(map(float, line.split())) for line in alone.stdout.splitlines()]
    assert [(each["loss"], each["grad_norm"]) for each in updates] == printed
    assert {each["samples"] for each in updates} == {8}
    assert {each["tokens"] for each in updates} == {None}
    assert {each["lr"] for each in updates} == {1e-3}
    for each in updates:
        assert sum(each["shares"].values()) == pytest.approx(each["seconds"])
        assert {"data", "forward", "backward", "optimizer"} <= each["shares"].keys()
    parameters = 32 * 64 + 64 + 64 * 4 + 4
    [model] = seen.of("model")
    assert (model["optimizer"], model["model"]) == ("AdamW", "Sequential")
    assert model["trained"] == model["parameters"] == parameters
    held = seen.of("updates")[-1]["held"]
    assert held == {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": 8 * parameters + 4 * 4,  # and a count of steps for each of four tensors
        "frozen": 0,
    }
    [end] = seen.of("end")
    assert end["updates"] == 10
    assert "error" not in end


def test_forked_workers_are_silent(tmp_path: Path) -> None:
    words = _script(tmp_path, LOOP.replace("WORKERS", "2"))
    seen = watch(words, tmp_path)
    assert seen.code == 0
    assert len(seen.told) == 1
    assert len(seen.updates()) == 10


def test_the_scripts_own_modules_and_sitecustomize_are_found(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins; builtins.OWN = __file__\n")
    for name in ("engine", "tui", "config", "frameworks", "wire"):
        (tmp_path / f"{name}.py").write_text(f"here = {name!r}\n")
    words = _script(
        tmp_path,
        "import engine, tui, config, frameworks, wire, sitecustomize, sys\n"
        "print([each.here for each in (engine, tui, config, frameworks, wire)])\n"
        "print(OWN, sitecustomize.__file__, len([path for path in sys.path if 'inside' in path]))\n"
        "import torch\nprint(torch.__spec__.loader.__class__.__name__, torch.__loader__ is torch.__spec__.loader)\n",
    )
    alone = plain(words, tmp_path, PYTHONPATH=str(own))
    seen = watch(words, tmp_path, PYTHONPATH=str(own))
    assert alone.returncode == 0
    assert (seen.out, seen.err, seen.code) == (alone.stdout, alone.stderr, 0)


@pytest.mark.parametrize(
    ("end", "code"),
    [("sys.exit(3)", 3), ("raise ValueError('no')", 1), ("os._exit(5)", 5), ("os.kill(os.getpid(), 15)", -15)],
)
def test_the_exit_code_is_the_scripts(end: str, code: int, tmp_path: Path) -> None:
    words = _script(tmp_path, f"import os, sys, torch\n{end}\n")
    alone, seen = plain(words, tmp_path), watch(words, tmp_path)
    assert (seen.code, seen.out, seen.err) == (code, alone.stdout, alone.stderr)
    assert alone.returncode == code


def test_an_out_of_memory_is_told_with_its_phase(tmp_path: Path) -> None:
    loop = LOOP.replace("WORKERS", "0").replace(
        "        loss.backward()",
        "        if n == 3: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.')\n"
        "        loss.backward()",
    )
    seen = watch(_script(tmp_path, loop), tmp_path)
    assert seen.code == 1
    [end] = seen.of("end")
    assert end["out_of_memory"]
    assert end["error"].startswith("OutOfMemoryError: CUDA out of memory.")
    assert (end["phase"], end["updates"]) == ("forward", 3)


def test_a_script_that_becomes_another_is_followed(tmp_path: Path) -> None:
    _script(tmp_path, LOOP.replace("WORKERS", "0"))
    words = _script(
        tmp_path, "import os, sys, torch\nos.execv(sys.executable, [sys.executable, 'train.py'])\n", "first.py"
    )
    seen = watch(words, tmp_path)
    assert seen.code == 0
    assert len(seen.updates()) == 10


def test_accumulation_counts_micro_steps_and_what_a_scaler_scaled_is_told_as_it_was(tmp_path: Path) -> None:
    loop = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for update in range(3):
    for micro_step in range(2):
        ids = torch.randint(0, 9, (3, 4))
        loss = model(ids.float()).mean()
        print(repr(loss.item()))
        scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
"""
    seen = watch(_script(tmp_path, loop), tmp_path)
    assert seen.code == 0, seen.err
    losses = list(map(float, seen.out.splitlines()))
    assert [each["loss"] for each in seen.updates()] == [sum(losses[n : n + 2]) / 2 for n in (0, 2, 4)]
    assert [each["micro_steps"] for each in seen.updates()] == [2, 2, 2]
    assert [each["samples"] for each in seen.updates()] == [None, 6, 6]  # the model is known after the first


def test_without_a_reader_the_script_goes_on(tmp_path: Path) -> None:
    words = _script(tmp_path, LOOP.replace("WORKERS", "0"))
    alone = plain(words, tmp_path)
    from tests.engine.scripts.watched import INSIDE

    left = plain(words, tmp_path, TRAINTOP_WIRE=str(tmp_path / "nobody"), PYTHONPATH=str(INSIDE))
    assert (left.returncode, left.stdout, left.stderr) == (0, alone.stdout, alone.stderr)


def test_a_fault_in_it_ends_the_looking_with_one_line_and_not_the_script(tmp_path: Path) -> None:
    loop = LOOP.replace("WORKERS", "0").replace(
        "import torch\n", "import torch, sys\nsys.modules['_traintop_inside.looking'].size_of = None\n", 1
    )
    seen = watch(_script(tmp_path, loop), tmp_path)
    assert seen.code == 0
    assert len(seen.out.splitlines()) == 10
    [off] = seen.of("off")
    assert off["why"] == "TypeError: 'NoneType' object is not callable"
    assert not seen.of("updates")
