"""Processes that ask to be watched themselves: `import traintop; traintop.attach()`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Event, RunFinished, RunStarted, UpdateDone
from engine.contract.knob import SCRIPT
from engine.contract.records import Outcome, Phase, RunRecord
from engine.contract.run_figures import new_record
from engine.history.history import History
from engine.scripts.attaching import Attached, AttachedRun
from engine.scripts.device import ScriptDevice, cpu
from engine.session.watch import Watch
from engine.telemetry.nvml import Nvml
from tests.engine.scripts.speaking import MODEL, updates

PACKAGE = Path(__file__).parents[3] / "engine" / "scripts" / "attached"
PATIENCE_S = 120.0

TRAINS = """
import os, signal, sys
import torch
import engine, traintop
assert engine.MINE

def train(n):
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.ones(4, 8)).pow(2).mean().backward()
        optimizer.step()

def wait(said):
    print(said, flush=True)
    return sys.stdin.readline()

assert traintop.attach()
train(7)
wait("first")
assert traintop.attach("the second, {with} braces")
train(3)
if wait("second") == "die\\n":
    os.kill(os.getpid(), signal.SIGKILL)
traintop.detach()
traintop.detach()
train(2)
wait("detached")
raise SystemExit(5)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "engine.py").write_text("MINE = True\n")
    (tmp_path / "work" / "tui.py").write_text("raise RuntimeError('the script has its own')\n")
    return tmp_path


class Driver:
    """A process that trains, and does the next thing when it is told to."""

    def __init__(self, home: Path) -> None:
        (home / "work" / "train.py").write_text(TRAINS)
        self.process = subprocess.Popen(
            [sys.executable, "train.py", "--x={y}"],
            cwd=home / "work",
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self, word: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    @property
    def listeners(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@pytest.fixture
def driver(home: Path) -> Iterator[Driver]:
    driver = Driver(home)
    yield driver
    driver.process.kill()
    driver.process.communicate()


def until(watch: Watch, wanted: Callable[[list[Event]], bool], events: list[Event]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not wanted(events):
        assert time.monotonic() < deadline, events
        events += watch.wait(0.5)


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_each_attach_is_a_run_that_another_process_sees_live(driver: Driver) -> None:
    assert driver.said() == "first"
    with History() as history:
        watch, events = Watch(history), list[Event]()
        watch.open()
        until(watch, lambda events: bool(of(events, UpdateDone)), events)
        (begun,) = of(events, RunStarted)
        assert (begun.config.job, begun.config.script.filled({})[1:]) == (SCRIPT, ["train.py", "--x={y}"])
        (listener,) = driver.listeners
        assert "libtorch" not in Path(f"/proc/{listener.pid}/maps").read_text()
        assert not of(events, RunFinished)

        driver.go_on()
        assert driver.said() == "second"
        until(watch, lambda events: bool(of(events, RunFinished)), events)
        (ended,) = of(events, RunFinished)
        assert (ended.record.outcome, ended.record.updates, ended.record.message) == (Outcome.COMPLETED, 7, None)
        assert ended.record.script.optimizer == "AdamW"
        assert (ended.record.script.exit_code, ended.record.script.model) == (None, "Linear")

        driver.go_on()
        assert driver.said() == "detached"
        until(watch, lambda events: len(of(events, RunFinished)) == 2, events)
        second = of(events, RunFinished)[1].record
        assert (second.updates, second.outcome) == (3, Outcome.COMPLETED)
        assert second.config.script.filled({}) == ["the second, {with} braces"]
        driver.go_on()
        assert driver.process.wait(PATIENCE_S) == 5
        assert len(history.runs()) == 2


@pytest.mark.slow  # end_to_end kills others
def test_a_process_that_is_killed_leaves_an_interrupted_run(driver: Driver) -> None:
    assert driver.said() == "first"
    driver.go_on()
    assert driver.said() == "second"
    with History() as history:
        watch, events = Watch(history), list[Event]()
        watch.open()
        until(watch, lambda events: len(of(events, UpdateDone)) >= 2, events)
        driver.go_on("die")
        until(watch, lambda events: bool(of(events, RunFinished)), events)
        record = of(events, RunFinished)[-1].record
        assert record.outcome is Outcome.INTERRUPTED
        assert record.updates >= 2  # the first ones are told at once, later ones ten times a second
        assert "is gone without a word" in record.message


CALLED = """
import sys, traintop
print(traintop._called(None)[1:], traintop._called("mine"))
sys.modules["ipykernel"] = sys
print(traintop._called(None))
__vsc_ipynb_file__ = "/a/code é.ipynb"
print(traintop._called(None))
import os
os.environ["JPY_SESSION_NAME"] = "/a/jupyter.ipynb"
print(traintop._called(None))
"""


def test_a_notebook_is_called_by_its_file_where_that_is_told(home: Path) -> None:
    left = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    told = subprocess.run(
        [sys.executable, "-c", CALLED],
        cwd=home / "work",
        env={**left, "PYTHONPATH": str(PACKAGE), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    first, *others = told.stdout.splitlines()
    assert first == f"{['-c', CALLED]} ['mine']"
    assert others == ["['notebook']", "['code é.ipynb']", "['jupyter.ipynb']"]


WITHOUT_TORCH = """
import sys, traintop
print(traintop.attach())
assert "torch" not in sys.modules
was = traintop._attached
traintop.detach()
assert was is None or was[1].returncode == 0  # nobody listens any more
"""


def attaching(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=home / "work",
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )


def test_who_never_trains_has_no_row(home: Path) -> None:
    done = attaching(home)
    assert (done.stdout, done.stderr) == ("True\n", "")
    with History() as history:
        assert history.runs() == []


def test_what_cannot_be_kept_is_said_in_one_line_and_the_training_goes_on(home: Path) -> None:
    blocked = home / "a-file"
    blocked.write_text("")
    done = attaching(home, TRAINTOP_HOME=str(blocked))
    assert done.stdout == "False\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("traintop: this training is not watched: ")


ON_TWO = """
import os, sys, traintop
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
assert traintop.attach()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    model(torch.ones(4, 8)).pow(2).mean().backward()
    optimizer.step()
dist.barrier()
traintop.detach()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_the_processes_of_a_launcher_are_one_run(home: Path) -> None:
    (home / "work" / "train.py").write_text(ON_TWO)
    rendezvous = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--local_addr=127.0.0.1"]
    command = ["-m", "torch.distributed.run", "--nproc_per_node=2", *rendezvous, "train.py"]
    subprocess.run(
        [sys.executable, *command],
        cwd=home / "work",
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE_S,
        capture_output=True,
        check=True,
    )
    with History() as history:
        watch, events = Watch(history), list[Event]()
        watch.open()
        until(watch, lambda _: [row.outcome for row in history.runs()] == [Outcome.COMPLETED], events)
        (record,) = history.runs()
    assert record.updates == 5
    assert record.script is not None
    assert record.script.n_processes == 2
    assert not list((home / "home" / "attached").iterdir())


def test_the_command_is_there_as_a_module_beside_files_of_the_same_names(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "traintop", "attach"],
        cwd=home / "work",
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("traintop attach: it is started by the training itself")


# how it ended, by what it said itself -----------------------------------------------------------------------------


def heard(
    end: Mapping[str, Any] | None, *, is_interactive: bool = False, pid: int | None = None, stop: bool = False
) -> RunRecord:
    """The record of a process that trained for two updates, and then said `end`."""
    attached = Attached(os.getpid() if pid is None else pid, is_interactive=is_interactive)
    assert attached.listener.path is not None
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(attached.listener.path)
        told = [
            {"kind": "hello", "pid": attached.pid},
            MODEL,
            updates(1, 2),
            *([{"kind": "end", **end}] if end else []),
        ]
        wire.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in told))
        assert attached.trains(lambda: False)
        config = RunConfig(job=SCRIPT, command="notebook.ipynb")
        run = AttachedRun(
            record=new_record(1, config, cpu(), 0.0),
            attached=attached,
            device=ScriptDevice(cpu(), Nvml()),
            nvml=Nvml(),
            emit=lambda event: None,
            should_stop=lambda: stop,
        )
        try:
            return run.execute()
        finally:
            attached.listener.close()


def test_the_end_is_what_the_process_says_of_it() -> None:
    assert heard({"updates": 2, "phase": "other"}).outcome is Outcome.COMPLETED
    error = {
        "updates": 2,
        "phase": "backward",
        "error": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
    }
    died = heard({**error, "out_of_memory": True})
    assert (died.outcome, died.failed_phase) == (Outcome.OUT_OF_MEMORY, Phase.BACKWARD)
    assert died.message is not None
    assert died.message.startswith("Out of memory in backward of update 3: CUDA out of memory. Tried to allocate")
    pressed = heard({"updates": 2, "phase": "forward", "error": "KeyboardInterrupt: "}, is_interactive=True)
    assert pressed.outcome is Outcome.STOPPED


def test_an_error_of_a_cell_after_the_training_is_none_of_the_run() -> None:
    error = {"updates": 2, "phase": "other", "error": "NameError: name 'x' is not defined"}
    assert heard(error, is_interactive=True).outcome is Outcome.COMPLETED
    assert heard(error).outcome is Outcome.FAILED


def test_who_stops_to_listen_says_that_the_process_goes_on() -> None:
    stopped = heard(None, stop=True)
    assert stopped.outcome is Outcome.STOPPED
    assert stopped.message == "It is not watched any more: that was ended by the user. The process goes on."
    assert stopped.updates == 2
