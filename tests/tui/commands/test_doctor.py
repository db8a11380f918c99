"""The doctor: what it says about a machine, and that every problem comes with its fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract import paths
from engine.history.history import History
from engine.process.machine import Machine, Ram
from engine.process.others import Cores
from tui.commands import doctor, doctor_files, doctor_terminal
from tui.commands.finding import Finding

GPU = {
    "index": 0,
    "name": "Tesla P4",
    "lost": False,
    "memory_total": 7611 * 2**20,
    "memory_used": 3 * 2**20,
    "throttle": [],
    "grave": [],
    "ecc_uncorrected": None,
    "compute_mode": "default",
    "mig": None,
    "slices": 0,
    "others": 0,
}
DRIVER = {"section": "driver", "problem": None, "version": "470.199.02", "cuda": "11.4", "gpus": [GPU]}
NO_DRIVER = {"section": "driver", "problem": "No NVIDIA driver: install it.", "gpus": []}
TORCH = {"section": "library", "name": "torch", "version": "2.13.0", "import_s": 1.5}
NO_CUDA: dict[str, Any] = {"section": "cuda", "built_for": None, "available": False, "gpus": []}
HUB = {"section": "hub", "endpoint": "https://hub", "problem": None, "path": "cache", "presets": ["bert-tiny"]}


def _judged(*parts: dict[str, Any]) -> list[Finding]:
    return list(doctor.judged(list(parts)))


def _process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_machine_with_everything_has_no_problem() -> None:
    able = {"index": 0, "error": None, "name": "Tesla P4", "capability": "6.1"}
    cuda = {"section": "cuda", "built_for": "11.8", "available": True, "gpus": [able]}
    findings = _judged(DRIVER, TORCH, cuda, HUB)
    assert {finding.status for finding in findings} == {"ok"}
    texts = [finding.found for finding in findings]
    assert "NVIDIA 470.199.02, runs CUDA up to 11.4" in texts
    assert "Tesla P4, 7611 MiB, 3 in use" in texts
    assert "Tesla P4, compute capability 6.1" in texts


def test_no_gpu_is_worth_a_note_but_no_problem() -> None:
    driver, _, cuda = _judged(NO_DRIVER, TORCH, NO_CUDA)
    assert (driver.status, driver.fix) == ("note", "No NVIDIA driver: install it.")
    assert (cuda.status, cuda.fix) == ("note", None)


@pytest.mark.parametrize(
    ("cuda", "says"),
    [
        (NO_CUDA, "install a build for your driver"),
        ({"section": "cuda", "built_for": "13.0", "available": False, "gpus": []}, "CUDA_VISIBLE_DEVICES"),
        (
            {
                "section": "cuda",
                "built_for": "13.0",
                "available": True,
                "gpus": [{"index": 0, "name": "Tesla P4", "capability": "6.1", "error": "no kernel image"}],
            },
            "no kernel image",
        ),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_a_problem_with_a_fix(cuda: dict[str, Any], says: str) -> None:
    problems = [finding for finding in _judged(DRIVER, TORCH, cuda) if finding.status == "problem"]
    assert len(problems) == 1
    assert says in (problems[0].fix or "")


@pytest.mark.parametrize(
    ("card", "status", "says"),
    [
        ({"lost": True, "name": None, "memory_total": None, "memory_used": None}, "fatal", "lost"),
        ({"ecc_uncorrected": 1}, "problem", "1 uncorrected ECC error"),
        ({"throttle": ["too hot"], "grave": ["too hot"]}, "problem", "slowed down (too hot)"),
        ({"compute_mode": "prohibited"}, "problem", "prohibited"),
        (
            {"compute_mode": "exclusive", "others": 1},
            "problem",
            "in use by 1 process; compute mode exclusive, and taken",
        ),
        ({"compute_mode": "exclusive"}, "note", "compute mode exclusive"),
        ({"mig": True, "slices": 2}, "note", "MIG mode, 2 slices"),
        ({"throttle": ["power cap"]}, "note", "slowed down (power cap)"),
        ({"others": 2}, "ok", "3 in use by 2 processes"),
    ],
)
def test_what_is_wrong_with_a_card_is_told_with_its_fix(card: dict[str, Any], status: str, says: str) -> None:
    _, finding = _judged({**DRIVER, "gpus": [{**GPU, **card}]})
    assert finding.status == status
    assert says in finding.found
    assert (finding.fix is None) == (status == "ok")


@pytest.mark.parametrize(
    ("error", "says", "never"),
    [
        ("CUDA error: out of memory", "others have taken it", "install"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "others have taken it", "install"),
        ("CUDA error: no kernel image is available", "install a PyTorch", "taken"),
        ("CUDA error: an illegal memory access", "dmesg", "install"),
    ],
)
def test_a_first_computation_that_fails_blames_what_is_at_fault(error: str, says: str, never: str) -> None:
    gpu = {"index": 3, "name": "Tesla P4", "capability": "6.1", "error": error, "tried": True}
    findings = _judged(DRIVER, TORCH, {"section": "cuda", "built_for": "12.4", "available": True, "gpus": [gpu]})
    fix = findings[-1].fix or ""
    assert findings[-1].status == "problem"
    assert says in fix
    assert never not in fix


def test_a_build_without_code_for_a_card_is_told_without_touching_the_card() -> None:
    gpu = {"index": 0, "name": "Tesla P4", "capability": "6.1", "error": None, "built_for_it": False, "tried": False}
    findings = _judged(DRIVER, TORCH, {"section": "cuda", "built_for": "13.0", "available": True, "gpus": [gpu]})
    assert "no code for it" in findings[-1].found


def test_a_library_that_cannot_be_imported_is_fatal() -> None:
    broken = {"section": "library", "name": "datasets", "error": "ImportError: libarrow.so: no such file"}
    (finding,) = _judged(broken)
    assert finding.status == "fatal"
    assert "libarrow.so" in finding.found
    assert "pip install --force-reinstall datasets" in (finding.fix or "")


def test_a_hub_that_does_not_answer_costs_only_the_weights_that_are_not_cached() -> None:
    silent = {**HUB, "problem": "the hub at https://hub does not answer"}
    (cached,) = _judged(silent)
    (bare,) = _judged({**silent, "presets": []})
    assert (cached.status, cached.fix) == ("note", None)
    assert "--model FOLDER" in (bare.fix or "")


def test_what_libraries_print_does_not_disturb_the_probe() -> None:
    code = f"print('hello'); print('{{}}'); print('\\n' + {json.dumps(json.dumps(TORCH))}); print('[1]')"
    assert doctor.read_probe(_process(code)) == [TORCH]


def test_a_library_that_kills_the_process_is_told_with_what_was_found_before() -> None:
    code = f"import os; print({json.dumps(json.dumps(NO_DRIVER))}, flush=True); os.abort()"
    found, died = doctor.read_probe(_process(code))
    assert found == NO_DRIVER
    (finding,) = _judged(died)
    assert finding.status == "fatal"
    assert "exit code -6" in finding.found


def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_S", 0.0)
    process = _process("import sys; sys.stdin.read()")
    (died,) = doctor.read_probe(process)
    process.kill()
    process.communicate()
    assert "did not end" in died["error"]


# the history ------------------------------------------------------------------------------------------------------


def test_the_history_is_opened_as_a_run_would() -> None:
    findings = {finding.check: finding for finding in doctor_files.files()}
    assert set(findings) == {"history", "file system", "disk", "log"}
    assert {finding.status for finding in findings.values()} <= {"ok", "problem"}
    assert str(paths.history_file()) in findings["history"].found
    assert "0 runs" in findings["history"].found
    with History() as history:
        assert f"journal mode {history.journal_mode}" in findings["file system"].found


def test_a_history_that_cannot_be_opened_is_fatal_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TRAINTOP_HOME", str(blocked))
    (finding,) = doctor_files.files()
    assert finding.status == "fatal"
    assert "--history-dir" in (finding.fix or "")


def test_a_damaged_history_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    paths.history_file().write_bytes(b"no database" * 1000)
    problems = [finding for finding in doctor_files.files() if finding.status == "problem"]
    assert any("damaged" in finding.found for finding in problems)


def test_a_disk_that_is_nearly_full_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_files, "LOW_DISK", 2**70)
    (disk,) = [finding for finding in doctor_files.files() if finding.check == "disk"]
    assert disk.status == "problem"


# the terminal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "lines", "status"),
    [(120, 40, "ok"), (80, 24, "ok"), (79, 24, "problem"), (80, 23, "problem"), (0, 0, "ok")],
)
def test_small_terminals_are_a_problem_and_unknown_ones_are_not(columns: int, lines: int, status: str) -> None:
    assert doctor_terminal.kind("xterm", os.terminal_size((columns, lines))).status == status


def test_a_dumb_terminal_is_a_problem_of_any_size() -> None:
    assert doctor_terminal.kind("dumb", os.terminal_size((200, 60))).status == "problem"


@pytest.mark.parametrize(
    ("environment", "found", "status"),
    [
        ({"TERM": "xterm-256color"}, "256", "ok"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "16 million", "ok"),
        ({"TERM": "xterm"}, "16", "problem"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "switched off by NO_COLOR", "note"),
    ],
)
def test_colours(environment: dict[str, str], found: str, status: str) -> None:
    finding = doctor_terminal.colours(environment)
    assert (finding.found, finding.status) == (found, status)


def test_plots_need_utf_8() -> None:
    for encoding in ("utf-8", "UTF-8", "utf8"):
        finding = doctor_terminal.characters(encoding)
        assert finding.status == "ok"
        assert doctor_terminal.BRAILLE in finding.found
    for unable in ("ascii", "iso8859-1", None):
        finding = doctor_terminal.characters(unable)
        assert finding.status == "problem"
        assert "UTF-8" in (finding.fix or "")


def test_ssh_without_a_multiplexer_gets_the_hint() -> None:
    (finding,) = doctor_terminal.between({"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"})
    assert finding.status == "note"
    assert "the run goes on" in finding.found
    assert "tmux" in (finding.fix or "")
    for variable in ("TMUX", "STY", "ZELLIJ"):
        (kept,) = doctor_terminal.between({"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22", variable: "x"})
        assert kept.status == "ok"
    assert list(doctor_terminal.between({})) == []


# the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replaces the probe's slow process by one that only says `parts`."""

    def replace(*parts: dict[str, Any]) -> None:
        text = "\n".join(json.dumps(part) for part in parts)
        monkeypatch.setattr(doctor, "start_probe", lambda device: _process(f"print({text!r})"))

    return replace


def test_as_json_every_finding_is_an_object_and_a_healthy_machine_exits_0(
    quick_probe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    quick_probe(NO_DRIVER, TORCH, NO_CUDA, HUB)
    assert doctor.execute(Namespace(device=None, json=True)) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"python", "machine", "history", "driver", "torch", "cuda", "hub"} <= {f["check"] for f in findings}
    assert all(set(finding) == {"check", "found", "status", "fix"} for finding in findings)


def test_people_get_lines_and_a_machine_that_cannot_train_exits_4(
    quick_probe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    quick_probe({"section": "library", "name": "torch", "error": "ImportError: no module"})
    assert doctor.execute(Namespace(device=None, json=False)) == 4
    out = capsys.readouterr().out
    assert "fatal    torch         cannot be imported" in out
    assert "pip install" in out


@pytest.mark.slow
def test_the_real_probe_finds_the_libraries_of_this_environment() -> None:
    process = doctor.start_probe()
    parts = doctor.read_probe(process)
    assert [part["section"] for part in parts] == ["driver", "library", "library", "library", "cuda", "hub"]
    assert not [part for part in parts if "error" in part]


def test_a_busy_host_is_noted_with_what_it_means() -> None:
    (finding,) = doctor.host(Cores(2.0, 0.1))
    assert (finding.status, finding.found) == ("note", "busy: other programs take 1.9 of 2 cores")
    assert "slower" in (finding.fix or "")
    assert list(doctor.host(Cores(2.0, 1.9))) == []
    assert list(doctor.host(None)) == []


@pytest.mark.parametrize(
    ("cores", "ram", "says"),
    [
        (4.0, 8192, "4 cores, 8192 MiB RAM"),
        (1.5, 8192, "1.5 of 4 cores, 8192 MiB RAM (affinity and control groups allow no more)"),
        (2.0, 512, "2 of 4 cores, 512 of 8192 MiB RAM (affinity and control groups allow no more)"),
    ],
)
def test_the_machine_is_what_may_be_used_of_it(
    monkeypatch: pytest.MonkeyPatch, cores: float, ram: int, says: str
) -> None:
    whole = psutil.virtual_memory()._replace(total=8192 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: whole)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(Machine, "cores", lambda self: cores)
    monkeypatch.setattr(Machine, "memory", lambda self: Ram(total=ram * 2**20, used=0, available=0))
    machine = next(finding for finding in doctor.python() if finding.check == "machine")
    assert machine.found.endswith(says)


SEVERAL: dict[str, Any] = {
    "section": "several",
    "n_gpus": 4,
    "nccl": "2.27.5",
    "gloo": True,
    "apart": [],
    "shm_free": 2**30,
    "cores": 8,
}


@pytest.mark.parametrize(
    ("changes", "status", "found", "fix"),
    [
        ({}, "ok", "4 GPUs can train together, by NCCL 2.27.5; each reaches the others' memory", ""),
        ({"nccl": None}, "problem", "has no NCCL", "for CUDA on Linux"),
        (
            {"apart": [[0, 1], [0, 2], [0, 3], [1, 2]]},
            "note",
            "no peer access between cuda:0 and cuda:1, cuda:0 and cuda:2, cuda:0 and cuda:3 and 1 more pairs",
            "through the host's memory",
        ),
        ({"shm_free": 60 * 2**20}, "note", "only 60 MiB free in /dev/shm", "--shm-size"),
        ({"shm_free": None}, "ok", "can train together", ""),
        ({"n_gpus": 1, "nccl": None}, "ok", "up to 8 virtual GPUs train together here, a core each", ""),
        ({"n_gpus": 0, "cores": 1}, "ok", "one core: no second GPU; more can be forecast", ""),
        ({"n_gpus": 0, "gloo": False}, "note", "this PyTorch has no gloo", "forecasts need none"),
    ],
)
def test_it_says_whether_several_gpus_can_train_together(
    changes: dict[str, Any], status: str, found: str, fix: str
) -> None:
    (finding,) = _judged({**SEVERAL, **changes})
    assert (finding.check, finding.status) == ("several", status)
    assert found in finding.found
    assert fix in (finding.fix or "")
