"""The session with the user's own commands: no library of its own, plans over them, and nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract.config import RunConfig
from engine.contract.events import EngineFailed, Event, PlanFinished, RunFinished, RunRefused, RunStarted, UpdateDone
from engine.contract.paths import history_file
from engine.contract.records import Outcome
from engine.history.history import History
from engine.plans.course import sweep, until_oom
from engine.session.session import Session
from tests.end_to_end.programs import ROOT, environment
from tests.engine.scripts.speaking import MODEL, script, updates
from tests.engine.telemetry.nvml_machine import machine


class Driver:
    """A session that was asked for something before it was opened, and a patient reader of its mailbox."""

    def __init__(self, folder: Path) -> None:
        self.history = History(folder / "history.sqlite3")
        self.session = Session(self.history)
        self.events: list[Event] = []

    def until(self, kind: type[Event]) -> Event:
        """Wait for an event of a kind; fails after two minutes without any event."""
        while not (found := [event for event in self.events if isinstance(event, kind)]):
            more = self.session.wait(120)
            assert more, f"no event came while waiting for {kind.__name__}"
            self.events += more
        return found[0]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    driver.session.close()
    driver.history.close()


def _config(path: Path, *words: str, **knobs: object) -> RunConfig:
    return RunConfig(job="script", command=shlex.join([sys.executable, str(path), *words])).with_values(**knobs)  # type: ignore[arg-type]


def test_a_script_has_its_row_and_series(driver: Driver, tmp_path: Path) -> None:
    driver.session.start(_config(script(tmp_path, [MODEL, updates(1, 5)])))
    driver.session.open()
    finished = driver.until(RunFinished)
    assert isinstance(finished, RunFinished)
    record = finished.record
    assert (record.outcome, record.updates) == (Outcome.COMPLETED, 5)
    assert driver.history.runs() == [record]
    told = [event for event in driver.events if isinstance(event, UpdateDone)]
    kept = [event for _, event in driver.history.series(record.run_id) if isinstance(event, UpdateDone)]
    assert kept == told


def test_a_command_that_is_not_there_has_no_row(driver: Driver) -> None:
    driver.session.start(RunConfig(job="script", command="no-such-program --x"))
    driver.session.open()
    refused = driver.until(RunRefused)
    assert isinstance(refused, RunRefused)
    assert (refused.run_id, refused.knob) == (None, "command")
    assert refused.message.startswith("The command no-such-program is not there")
    assert driver.history.runs() == []


def test_a_search_stops_where_the_script_runs_out_of_memory(driver: Driver, tmp_path: Path) -> None:
    then = (
        'if int(sys.argv[1]) > 5:\n    tell(wire, kind="end", updates=2, phase="backward", out_of_memory=True,\n'
        '        error="OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")\n    sys.exit(1)'
    )
    on_card = {**MODEL, "device": {"name": "Tesla P4", "total": 2**33, "uuid": None}}
    base = _config(script(tmp_path, [on_card, updates(1, 9)], then), "{batch_size}", batch_size=2)
    driver.session.start_plan(until_oom(base))
    driver.session.open()
    ended = driver.until(PlanFinished)
    assert isinstance(ended, PlanFinished)
    assert ended.completed
    tried = [(record.config.batch_size, record.outcome) for record in driver.history.runs()]
    assert tried[-1][0] in (5, 6)
    assert (max(size for size, outcome in tried if outcome is Outcome.COMPLETED)) == 5
    assert (min(size for size, outcome in tried if outcome is Outcome.OUT_OF_MEMORY)) == 6


def test_skipping_a_script_goes_on_with_the_next(driver: Driver, tmp_path: Path) -> None:
    then = "time.sleep(0 if sys.argv[1] == '4' else 600)"
    base = _config(script(tmp_path, [MODEL, updates(1, 2)], then), "{batch_size}", batch_size=2)
    driver.session.start_plan(sweep(base, {"batch_size": ["2", "4"]}))
    driver.session.open()
    driver.until(UpdateDone)
    driver.session.skip_run()
    driver.until(PlanFinished)
    assert [record.outcome for record in driver.history.runs()] == [Outcome.STOPPED, Outcome.COMPLETED]


def test_leaving_at_once_leaves_nothing_behind(driver: Driver, tmp_path: Path) -> None:
    deaf = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; tell(wire, **json.loads(sys.argv[1]))"
    path = script(tmp_path, [], f"{deaf}; time.sleep(600)")
    driver.session.start(_config(path, json.dumps(updates(1, 1))))
    driver.session.open()
    driver.until(UpdateDone)
    # Children of other tests in this process, as the server that ranks are forked from, are not the script.
    [child] = [each for each in psutil.Process().children() if str(path) in each.cmdline()]
    assert not driver.session.close(0.0)
    child.wait(60)
    [record] = driver.history.runs()
    assert (record.outcome, record.updates) == (Outcome.INTERRUPTED, 1)


def test_closing_ends_a_deaf_script_in_its_time(driver: Driver, tmp_path: Path) -> None:
    deaf = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; tell(wire, **json.loads(sys.argv[1]))"
    driver.session.start(_config(script(tmp_path, [], f"{deaf}; time.sleep(600)"), json.dumps(updates(1, 1))))
    driver.session.open()
    driver.until(UpdateDone)
    assert driver.session.close(60.0)
    [record] = driver.history.runs()
    assert (record.outcome, record.updates) == (Outcome.STOPPED, 1)
    assert record.message == "Stopped by the user. It did not end by SIGINT, and got SIGKILL."


_ALONE = """
import json, sys
from engine.contract.as_json import record_to_json
from engine.contract.config import RunConfig
from engine.contract.events import Neighbours, RunFinished, RunRefused, Sampled, ScriptKnown
from engine.history.history import History
from engine.session.session import Session

with History() as history:
    session = Session(history)
    session.start(RunConfig(job="script", command=sys.argv[1]))
    session.open()
    record, known, read, neighbours = None, False, [], []
    while record is None:
        for event in session.wait(60):
            assert not isinstance(event, RunRefused), event.message
            known = known or isinstance(event, ScriptKnown)
            if isinstance(event, Sampled) and known and event.t is not None and event.gpu is not None:
                read.append([event.gpu.name, event.memory.used, event.host.process_memory])
            if isinstance(event, Neighbours):
                neighbours.append([process.pid for process in event.processes])
            if isinstance(event, RunFinished):
                record = event.record
    heavy = sorted({"torch", "transformers", "numpy"} & set(sys.modules))
    print(json.dumps([record_to_json(record), read, neighbours, heavy]))
    assert session.close(60)
"""


def test_the_card_that_a_script_uses_is_read_and_what_it_has_there_is_no_neighbours(tmp_path: Path) -> None:
    cards = machine(tmp_path, 2)
    uuid = cards.cards[1]["uuid"]
    neighbour = subprocess.Popen(["sleep", "600"])
    then = (
        "from pathlib import Path\nstate = Path(os.environ['NVML_STUB_STATE'])\n"
        "new = state.with_suffix('.new')\n"
        "lines = [f'process 1 pid={pid}|kind=compute|used=500' for pid in (os.getpid(), int(sys.argv[1]))]\n"
        "new.write_text(state.read_text() + chr(10).join(lines) + chr(10))\n"
        "os.replace(new, state)\n"
        "card = {'name': 'NVIDIA H200', 'total': 100, 'uuid': sys.argv[2]}\n"
        "tell(wire, kind='model', optimizer='SGD', model='GPT', trained=1, parameters=1, torch='2.9.0', device=card)\n"
        "memory = {'allocated': 2**30, 'reserved': 2**31, 'peak_allocated': 2**30, 'peak_reserved': 2**31}\n"
        "tell(wire, **{**json.loads(sys.argv[3]), 'memory': memory})\n"
        "time.sleep(2.5)\n"  # five readings
    )
    path = script(tmp_path, [], then)
    words = [sys.executable, str(path), str(neighbour.pid), uuid, json.dumps(updates(1, 2))]
    env = {**os.environ, **environment(tmp_path), **cards.environment}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, shlex.join(words)],
        env=env, capture_output=True, text=True, timeout=180, check=False, cwd=ROOT,
    )  # fmt: skip
    neighbour.kill()
    neighbour.wait()
    assert done.returncode == 0, done.stderr
    record, read, neighbours, heavy = json.loads(done.stdout)
    assert heavy == []
    assert (record["device"], record["device_kind"], record["gpu_uuid"]) == ("NVIDIA H200", "cuda", uuid)
    assert (record["peak_allocated_mib"], record["peak_reserved_mib"]) == (1024, 2048)
    assert {name for name, _, _ in read} == {"NVIDIA H200"}
    assert {pid for pids in neighbours for pid in pids} == {neighbour.pid}
    assert [each["pid"] for each in record["contended"]] == [neighbour.pid]


_KILLED = """
import sys
from engine.contract.config import RunConfig
from engine.contract.events import UpdateDone
from engine.history.history import History
from engine.session.session import Session

history = History()
session = Session(history)
session.start(RunConfig(job="script", command=sys.argv[1]))
session.open()
while not any(isinstance(event, UpdateDone) and event.update == 3 for event in session.wait(60)):
    pass
assert history.writer.flush() is None
print("ready", flush=True)
import time
time.sleep(600)
"""


def test_when_traintop_is_killed_the_script_goes_on_and_the_row_keeps_what_was_seen(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    then = (
        "sys.stdin = None\nwhile os.getppid() == int(sys.argv[1] if len(sys.argv) > 1 else PARENT): time.sleep(0.02)\n"
        "try:\n    tell(wire, kind='log')\nexcept OSError:\n    pass\n"
        f"print('goes on', flush=True)\nopen({str(ended)!r}, 'w').close()\n"
    )
    path = script(tmp_path, [MODEL, updates(1, 3)], "PARENT = os.getppid()\n" + then)
    command = shlex.join([sys.executable, str(path)])
    env = {**os.environ, **environment(tmp_path)}
    killed = subprocess.Popen(
        [sys.executable, "-c", _KILLED, command], env=env, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    while not ended.exists():
        time.sleep(0.02)
    with History(tmp_path / history_file().name) as history:
        [record] = history.mark_interrupted()
    assert (record.outcome, record.updates) == (Outcome.INTERRUPTED, 3)
    assert (record.message or "").endswith("The script may have gone on without it.")
    assert record.script is not None
    assert (record.script.model, record.script.batch_size) == ("GPT", 8)
    assert record.script.held["weights"] == 400
    assert record.script.log_path is not None
    assert Path(record.script.log_path).read_text() == "goes on\n"


def test_a_failure_to_load_is_none_of_a_scripts_business(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "_load", lambda self: pytest.fail("nothing is to be loaded"))
    driver.session.start(_config(script(tmp_path, [MODEL, updates(1, 1)])))
    driver.session.open()
    driver.until(RunFinished)
    assert not [event for event in driver.events if isinstance(event, EngineFailed)]
    assert isinstance(driver.until(RunStarted), RunStarted)


def test_a_script_does_not_wait_for_what_is_loaded_meanwhile(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def load(self: Session) -> None:
        begun.set()
        let_go.wait()
        self._has_loaded = True

    monkeypatch.setattr(Session, "_load", load)
    driver.session.open()
    assert begun.wait(60)
    driver.session.start(_config(script(tmp_path, [MODEL, updates(1, 2)])))
    ended = driver.until(RunFinished)
    assert isinstance(ended, RunFinished)
    assert (ended.record.outcome, ended.record.updates) == (Outcome.COMPLETED, 2)
    let_go.set()
