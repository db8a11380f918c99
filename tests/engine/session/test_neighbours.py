"""What a run meets on its card, as a session finds it: NVML's library is a stand-in, the runs are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.programs import ROOT, environment
from tests.engine.telemetry.nvml_machine import Machine, build, why_no_library

_SESSION = """
import json, os, re, sys
from pathlib import Path
from tests.engine.devices.cuda_machine import pretend
pretend()
from engine.contract.as_json import record_to_json
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import AnsweringStarted, EngineFailed, Neighbours, RequestDone, RunFinished
from engine.contract.events import RunRefused, Sampled, UpdateDone
from engine.history.history import History
from engine.session.session import Session

state = Path(os.environ["NVML_STUB_STATE"])
other = sys.argv[1]

def change(*new, **figures):
    lines = [line for line in state.read_text().splitlines() if f"pid={other}" not in line]
    for name, value in figures.items():
        lines = [re.sub(rf"\\|{name}=\\d+", f"|{name}={value}", l) if l.startswith("card 0") else l for l in lines]
    state.with_suffix(".changed").write_text("\\n".join([*lines, *new]) + "\\n")
    os.replace(state.with_suffix(".changed"), state)

with History() as history:
    session = Session(history, device="cuda:0")
    session.open()
    pending = []
    def until(wanted):
        while True:
            while pending:
                event = pending.pop(0)
                assert not isinstance(event, (EngineFailed, RunRefused)), event.message
                if wanted(event):
                    return event
            pending.extend(session.wait(60))
    def run(*new, **figures):
        session.start(RunConfig(model="bert-tiny", device="cuda:0", samples=100_000, batch_size=4, seq_len=16))
        until(lambda event: isinstance(event, UpdateDone))
        change(*new, **figures)
        if new:
            until(lambda event: isinstance(event, Neighbours) and event.processes)
        for _ in range(3):
            until(lambda event: isinstance(event, Sampled))
        session.stop()
        print(json.dumps(record_to_json(until(lambda event: isinstance(event, RunFinished)).record)))
    run(f"process 0 pid={other}|kind=compute|used=2000|sm=40", energy=1_500_000, throttle=0x48)
    change(throttle=1, power=50_000)
    run(energy=100)  # the counter begins anew
    session.start(defaults_of("answer").with_values(device="cuda:0", requests=100_000, prompt_len=8, max_new_tokens=2))
    until(lambda event: isinstance(event, AnsweringStarted))
    until(lambda event: isinstance(event, RequestDone) and not event.warmup)
    change(energy=700_100)
    until(lambda event: isinstance(event, Sampled))
    session.stop()
    print(json.dumps(record_to_json(until(lambda event: isinstance(event, RunFinished)).record)))
    change("fault 0 function=nvmlDeviceGetTotalEnergyConsumption|code=3", power=50_000)
    run()
    assert session.close(60)
    print(json.dumps([record_to_json(record) for record in history.runs()]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := why_no_library():
        pytest.skip(why)
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.mark.slow
def test_a_process_heat_and_energy_in_the_middle_of_a_run(library: Path, tmp_path: Path) -> None:
    machine = Machine(library, tmp_path / "state")
    machine.card(0, name="Tesla P4", total=7611, energy=1_000_000)
    machine.write()
    env = {**os.environ, **environment(tmp_path), **machine.environment}
    command = [sys.executable, "-c", _SESSION, str(os.getpid())]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, second, answers, third, rows = map(json.loads, done.stdout.splitlines())
    assert rows == [first, second, answers, third]
    assert (answers["config"]["job"], answers["energy_source"], answers["energy_wh"]) == (
        "answer",
        "counter",
        700 / 3600,
    )
    assert first["outcome"] == "stopped"
    (neighbour,) = first["contended"]
    assert (neighbour["pid"], neighbour["peak_memory_mib"], neighbour["sm"]) == (os.getpid(), 2000, 40.0)
    assert neighbour["command"] is not None
    assert 0 < neighbour["share"] < 1
    (slowdown,) = first["throttled"]
    assert slowdown["reason"] == "too hot"  # the cause says more than "hardware slowdown"
    assert 0 < slowdown["share"] <= 1
    assert (first["energy_source"], first["energy_wh"]) == ("counter", 500 / 3600)
    assert (second["contended"], second["throttled"], second["energy_source"]) == ([], [], "power")
    assert (third["contended"], third["throttled"], third["energy_source"]) == ([], [], "power")
    for record in (second, third):
        watts = record["energy_wh"] * 3600 / record["train_runtime_s"]
        assert 45 < watts < 200  # 50 W for as long as it trained, and the micro-step that was stopped
