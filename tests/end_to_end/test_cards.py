"""Programs on a machine with several GPUs, some of them full: whole runs on the card asked for, and no other."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import COMMAND, ROOT, environment
from tests.engine.telemetry.nvml_machine import Machine, build, why_no_library

SMALL = ("--model", "bert-tiny", "--batch-size", "4", "--samples", "16", "--seq-len", "16")
ON_CARDS = (sys.executable, "-m", "tests.engine.devices.cuda_machine")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := why_no_library():
        pytest.skip(why)
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(library: Path, tmp_path: Path) -> Machine:
    """Four cards, of which the first is full and the second shared."""
    machine = Machine(library, tmp_path / "state")
    for index in range(4):
        machine.card(index, name="Tesla P4", total=7611)
    machine.card(0, used=7508)
    machine.process(0, os.getpid(), used=7400)
    machine.card(1, used=3000)
    machine.process(1, os.getpid(), used=2900)
    return machine.write()


def done(machine: Machine, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment(home), **machine.environment, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run(
        words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False, cwd=ROOT
    )


def events(finished: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The last event of each kind."""
    return {event["event"]: event for event in map(json.loads, finished.stdout.splitlines())}


def contexts(machine: Machine) -> list[str]:
    """The cards that another process than the test's came to."""
    lines = Path(machine.environment["NVML_STUB_STATE"]).read_text(encoding="utf-8").splitlines()
    return [line.split()[1] for line in lines if line.startswith("process") and f"pid={os.getpid()}|" not in line]


def test_a_run_is_on_the_card_that_was_asked_for_and_on_no_other(machine: Machine, tmp_path: Path) -> None:
    finished = done(machine, tmp_path, *ON_CARDS, "run", *SMALL, "--device", "cuda:3", "--json")
    assert finished.returncode == 0, finished.stderr
    told = events(finished)
    uuid = "GPU-00000003-aaaa-bbbb-cccc-000000000000"
    for event in ("engine_ready", "run_started"):
        device = told[event]["device"]
        assert (device["kind"], device["index"], device["uuid"]) == ("cuda", 3, uuid)
    assert contexts(machine) == ["3"]
    over = told["run_finished"]
    assert (over["gpu_uuid"], over["host"], over["outcome"]) == (uuid, platform.node(), "completed")
    assert over["peak_used_mib"] == 503  # the card's own: what card 0 has is none of it
    listed = done(machine, tmp_path, *COMMAND, "runs", "--json")
    assert json.loads(listed.stdout) == {**over, "event": "run_finished"}
    shared = done(machine, tmp_path, *ON_CARDS, "run", *SMALL, "--device", "cuda:1")
    assert f"warning: cuda:1 is shared with your process {os.getpid()} (2900 MiB)" in shared.stderr
    table = done(machine, tmp_path, *COMMAND, "runs").stdout
    assert "GPU-00000003" in table
    assert "GPU-00000001" in table


_SESSION = """
import sys
from tests.engine.devices.cuda_machine import pretend
pretend()
from engine.contract.config import RunConfig
from engine.contract.events import DeviceChosen, EngineFailed, EngineReady, Forecasted, Proposed, RunFinished, Surveyed
from engine.history.history import History
from engine.session.session import Session
with History() as history:
    session = Session(history, device=sys.argv[1], measures=True)
    session.open()
    def until(kind):
        while True:
            for event in session.wait(60):
                assert not isinstance(event, EngineFailed), event.message
                if isinstance(event, kind):
                    return event
    print("ready", until(EngineReady).device.numbers)
    small = RunConfig(device="cpu", samples=8, batch_size=4, seq_len=16)
    session.start(small)
    print("cpu", until(RunFinished).record.outcome.value)
    session.look_at("cuda:2")
    print("looks at", until(DeviceChosen).device.numbers)
    for name in ("cuda:0", "cuda:2"):
        session.forecast(small.with_values(device=name))
        made = until(Forecasted).forecast
        print("forecast", name, made.verdict, made.notes[-1])
    session.survey(small)
    survey = until(Surveyed)
    for choice in survey.choices:
        print(choice.name, choice.taken, choice.forecast.verdict, [process.pid for process in choice.others])
    session.start(small.with_values(device="cuda:1"))
    record = until(RunFinished).record
    print("beside", len(record.conditions.neighbours), record.conditions.peak_others // 2**20)
    session.start(small.with_values(device="cuda:0"))
    record = until(RunFinished).record
    print(record.outcome.value, record.message)
    session.propose(record)
    print([proposal.label for proposal in until(Proposed).proposals])
    assert session.close(60)
"""


@pytest.mark.slow
def test_a_full_first_card_leaves_every_other_and_the_cpu(machine: Machine, tmp_path: Path) -> None:
    finished = done(machine, tmp_path, sys.executable, "-c", _SESSION, "auto")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    me = os.getpid()
    assert lines[:3] == ["ready cuda:0", "cpu completed", "looks at cuda:2"]
    assert lines[3].startswith("forecast cuda:0 out_of_memory Other processes have 7400 MiB of this GPU now")
    assert lines[4].startswith("forecast cuda:2 fits")
    assert lines[5:9] == [
        f"cuda:0 True out_of_memory [{me}]",
        f"cuda:1 True fits [{me}]",
        "cuda:2 False fits []",
        "cuda:3 False fits []",
    ]
    assert lines[9] == "beside 1 2900"
    assert lines[10].startswith("out_of_memory Out of memory in load: CUDA error: out of memory. The card is shared ")
    assert lines[11].startswith("['the same on cuda:")  # a smaller batch would be no answer
    assert contexts(machine) == ["1"]  # where a run was; nothing was measured on the full card


@pytest.mark.slow
def test_gpus_that_this_pytorch_cannot_use_are_told_once_with_the_fix(machine: Machine, tmp_path: Path) -> None:
    import torch

    if torch.version.cuda is not None:
        pytest.skip("this PyTorch is built with CUDA")
    says = "The driver shows 4 GPUs (4 × Tesla P4), but this PyTorch is built without CUDA: for this driver (CUDA 12.2)"
    run = done(machine, tmp_path, *COMMAND, "run", *SMALL, "--json")
    assert run.stderr.count(says) == 1
    assert events(run)["engine_ready"]["note"].startswith(says)
    assert events(run)["engine_ready"]["device"]["kind"] == "virtual"
    forecast = done(machine, tmp_path, *COMMAND, "forecast", *SMALL)
    assert forecast.stdout.replace("\n", " ").count(says) == 1
