"""Real commands, run to every end that they can have. Most speak over the wire by themselves: torch takes seconds."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from engine.contract.config import ConfigError
from engine.contract.events import Logged, MemoryMoment, ScriptKnown, UpdateDone
from engine.contract.paths import script_errors, script_log
from engine.contract.records import Outcome, Phase
from engine.scripts.child import INSIDE, check, environment_of
from engine.scripts.stopping import Patience
from engine.scripts.verdicts import NOT_WATCHED
from tests.engine.scripts.running import Runs, python
from tests.engine.scripts.speaking import MODEL, script, updates


def test_a_command_is_heard_from_its_start_to_its_record(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    wait = f"while not os.path.exists({str(seen)!r}): time.sleep(0.01)\n"  # what has ended has no memory to read
    then = wait + 'print("out", flush=True); print("err", file=sys.stderr); tell(wire, kind="end", updates=12)'
    runs = python(str(script(tmp_path, [MODEL, updates(1, 10), updates(11, 12)], then)), run_id=3)
    runs.on = lambda event: seen.touch() if isinstance(event, UpdateDone) else None
    record = runs.execute()
    assert (record.outcome, record.message, record.updates) == (Outcome.COMPLETED, None, 12)
    assert (record.samples_per_s, record.steady_samples_per_s) == (pytest.approx(80.0), pytest.approx(80.0))
    assert record.script is not None
    assert (record.script.exit_code, record.script.log_path) == (0, str(script_log(3)))
    assert (record.script.model, record.script.batch_size) == ("GPT", 8)
    assert record.script.held == {"weights": 400, "gradients": 400, "optimizer": 800, "frozen": 100}
    assert record.peak_used is not None
    assert record.peak_used > 2**20
    assert record.device is not None
    assert record.device.kind == "cpu"
    kinds = [type(event) for event in runs.events if isinstance(event, (MemoryMoment, ScriptKnown, UpdateDone))]
    assert kinds == [MemoryMoment, ScriptKnown, *[UpdateDone] * 12, MemoryMoment]
    assert [event.moment for event in runs.of(MemoryMoment)] == ["model", "trained"]
    assert sorted(runs.printed) == ["err", "out"]
    assert script_log(3).read_text() == "out\n"
    assert script_errors(3).read_text() == "err\n"


def test_it_has_our_folder_and_environment_and_no_terminal() -> None:
    program = (
        "import os, sys\n"
        "print(os.getcwd()); print(os.environ['MINE']); print(sys.stdin.read() == '', os.getsid(0) == os.getpid())\n"
        "print(os.environ['PYTHONPATH'])\n"
    )
    before = {"PATH": os.environ["PATH"], "MINE": "yes", "PYTHONPATH": "/theirs"}
    runs = python("-c", program)
    runs.run.environ = before
    assert runs.execute().outcome is Outcome.COMPLETED
    assert runs.printed == [os.getcwd(), "yes", "True True", f"{INSIDE}{os.pathsep}/theirs"]
    environment = environment_of(before, None, {"CUDA_VISIBLE_DEVICES": "1"})
    assert environment == {**before, "CUDA_VISIBLE_DEVICES": "1", "PYTHONUNBUFFERED": "1"}
    assert environment_of({"PYTHONUNBUFFERED": ""}, None, {}) == {"PYTHONUNBUFFERED": ""}


def test_knobs_stand_in_the_command() -> None:
    runs = python("-c", "import sys; print(sys.argv[1:])", "--batch={batch_size}", "{size=1,2}", batch_size=16)
    runs.execute()
    assert runs.printed == ["['--batch=16', '1']"]


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("sys.exit(3)", 3, "It ended with exit code 3 after update 2. What it printed is in"),
        ("os._exit(5)", 5, "It ended with exit code 5 after update 2. What it printed is in"),
        ("import no_such_thing", 1, "It ended with exit code 1 after update 2: ModuleNotFoundError: No module named"),
        ("os.kill(os.getpid(), 9)", 137, "Killed by SIGKILL after update 2: the system's out-of-memory killer did it"),
        ("os.kill(os.getpid(), 15)", 143, "Ended by SIGTERM after update 2, which traintop did not send"),
        ("os.abort()", 134, "It crashed with SIGABRT after update 2."),
    ],
)
def test_how_it_ends_is_told_with_the_shells_code(end: str, code: int, message: str, tmp_path: Path) -> None:
    record = python(str(script(tmp_path, [MODEL, updates(1, 2)], end))).execute()
    assert record.outcome is Outcome.FAILED
    assert (record.message or "").startswith(message)
    assert record.updates == 2
    assert record.script is not None
    assert record.script.exit_code == code
    if end == "import no_such_thing":
        assert (record.message or "").endswith(f"is in {script_log(1)} and run-1.err.log.")


def test_out_of_memory_in_the_script_is_the_runs(tmp_path: Path) -> None:
    error = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    end = {"kind": "end", "updates": 2, "phase": "forward", "error": error, "out_of_memory": True}
    record = python(str(script(tmp_path, [MODEL, updates(1, 2), end], "sys.exit(1)"))).execute()
    assert (record.outcome, record.failed_phase) == (Outcome.OUT_OF_MEMORY, Phase.FORWARD)
    assert record.message == "Out of memory in forward of update 3: CUDA out of memory. Tried to allocate 2.00 GiB."


def test_what_is_no_training_completes_and_says_so() -> None:
    record = Runs("echo", "hello").execute()
    assert (record.outcome, record.message, record.updates) == (Outcome.COMPLETED, NOT_WATCHED, 0)
    assert record.train_runtime_s is None


def test_a_flood_does_not_slow_it_and_its_end_is_shown(tmp_path: Path) -> None:
    flood = "line = 'x' * 99 + chr(10)\nfor _ in range(100): sys.stdout.write(line * 10_000)\nsys.stdout.write('done')"
    runs = python(str(script(tmp_path, [MODEL, updates(1, 2)], flood)))
    assert runs.execute().outcome is Outcome.COMPLETED
    assert os.stat(script_log(1)).st_size == 100_000_004
    assert runs.printed[-1] == "done"
    assert len(runs.printed) < 2_000
    assert any("left out" in event.text for event in runs.of(Logged))
    script_log(1).unlink()


def test_a_stop_is_sent_as_by_a_terminal() -> None:
    program = (
        "import time\n"
        "try:\n    print('ready'); time.sleep(600)\n"
        "except KeyboardInterrupt:\n    print('saved'); raise SystemExit(0)\n"
    )
    runs = python("-c", program, patience=Patience(asked_s=600))
    runs.stop_when("ready")
    record = runs.execute()
    assert (record.outcome, record.message) == (Outcome.STOPPED, "Stopped by the user.")
    assert runs.printed == ["ready", "saved"]
    assert runs.progress[-1] == "SIGINT sent: waiting for the script to end; SIGTERM in 600 s"


def test_who_does_not_hear_is_told_and_then_ended_with_all_that_it_started() -> None:
    deaf = "import signal, time, os; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; "
    program = (
        f"import subprocess, sys; {deaf}\n"
        f"other = subprocess.Popen([sys.executable, '-c', {deaf + 'print(os.getpid()); time.sleep(600)'!r}],\n"
        "    start_new_session=True, stdout=subprocess.PIPE)\n"
        "print('other', int(other.stdout.readline()))\nprint('ready')\ntime.sleep(600)\n"
    )
    runs = python("-c", program)
    runs.stop_when("ready")
    record = runs.execute()
    other = int(next(line for line in runs.printed if line.startswith("other")).split()[1])
    assert not psutil.pid_exists(other) or psutil.Process(other).status() == psutil.STATUS_ZOMBIE
    assert record.outcome is Outcome.STOPPED
    assert record.message == "Stopped by the user. It did not end by SIGINT, and got SIGKILL."
    assert record.script is not None
    assert record.script.exit_code == 137
    assert [line.split()[0] for line in runs.progress[-3:]] == ["SIGINT", "SIGTERM", "SIGKILL"]


def test_who_asks_twice_does_not_wait() -> None:
    program = "import signal, time; signal.signal(2, signal.SIG_IGN); print('ready'); time.sleep(600)"
    runs = python("-c", program, patience=Patience(asked_s=600, told_s=600))
    runs.stop_when("ready", times=2)
    record = runs.execute()
    assert record.message == "Stopped by the user. It did not end by SIGINT, and got SIGTERM."


def test_what_is_left_of_a_command_that_was_killed_is_ended(tmp_path: Path) -> None:
    worker = script(tmp_path, [MODEL, updates(1, 2)], "time.sleep(600)", "worker.py")
    launcher = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, {str(worker)!r}], start_new_session=True).wait()"
    )
    runs = python("-c", launcher)
    pids: list[int] = []

    def kill_launcher(event: object) -> None:
        if isinstance(event, UpdateDone) and not pids:
            assert runs.run._child is not None
            pids.extend(runs.run.device.pids)
            os.kill(runs.run._child.pid, signal.SIGKILL)

    runs.on = kill_launcher
    record = runs.execute()
    assert (record.message or "").startswith("Killed by SIGKILL after update 2")
    [pid] = pids
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("is_daemon", [False, True])
def test_what_goes_on_after_the_command_is_named_and_left_alone(is_daemon: bool) -> None:
    program = (
        "import subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'print(0, flush=True); import time; time.sleep(600)'],\n"
        f"    stdout=subprocess.PIPE, start_new_session={is_daemon})\n"
        "other.stdout.readline(); print(other.pid)"
    )
    runs = python("-c", program)
    record = runs.execute()
    [pid] = map(int, runs.printed)
    assert record.outcome is Outcome.COMPLETED
    assert any(event.text.endswith(f"watched no more: process {pid}.") for event in runs.of(Logged))
    assert (record.message or "").endswith("start the training in the foreground, without & and not as a daemon.")
    os.kill(pid, signal.SIGKILL)


def test_a_fault_of_ours_does_not_take_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("engine.scripts.folding.Folding._joined", broken)
    runs = python(str(script(tmp_path, [MODEL, updates(1, 2)], "print('to the end')")))
    assert runs.execute().outcome is Outcome.COMPLETED
    assert runs.printed == ["to the end"]
    assert any("cannot be followed any more" in event.text for event in runs.of(Logged))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-program"], "The command no-such-program is not there: give a program of your PATH, or its path."),
        (["train.py"], "The command train.py is not there: use python train.py."),
        (
            ["A=1", "python"],
            "The command A=1 is not there: a variable is set with env, as in -- env A=1 python train.py.",
        ),
        (["./folder"], "The command ./folder is a folder."),
        (["./text"], "The command ./text may not be executed: use chmod +x ./text, or its interpreter."),
    ],
)
def test_a_program_that_is_not_there_is_refused_with_the_way_out(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("x")
    with pytest.raises(ConfigError) as refused:
        check(words, os.environ)
    assert (refused.value.knob, refused.value.message) == ("command", message)
    check([sys.executable], os.environ)


def test_what_the_system_cannot_execute_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"\x00\x01")
    path.chmod(0o755)
    with pytest.raises(ConfigError, match=r"cannot be started \(Exec format error\): give its interpreter"):
        Runs(str(path)).execute()
    path.write_text("#!/no/such/interpreter\n")
    with pytest.raises(ConfigError, match="the interpreter in its first line, is not there"):
        Runs(str(path)).execute()


def test_a_script_is_ended_after_the_updates_that_it_is_run_for(tmp_path: Path) -> None:
    lasts = "tell(wire, **UPDATES)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(1)"
    then = f"UPDATES = {updates(3, 12)!r}\ntry:\n    {lasts}"
    runs = python(str(script(tmp_path, [MODEL, updates(1, 2)], then)), max_updates=10, patience=Patience(asked_s=600))
    record = runs.execute()
    assert (record.outcome, record.updates) == (Outcome.COMPLETED, 10)  # though they come a few at a time
    assert record.message == "Ended after 10 updates, as --max-updates says."
    assert record.script is not None
    assert record.script.exit_code == 1


def test_one_that_ends_before_them_ended_by_itself(tmp_path: Path) -> None:
    runs = python(str(script(tmp_path, [MODEL, updates(1, 2)], "sys.exit(3)")), max_updates=10)
    assert runs.execute().outcome is Outcome.FAILED
