"""`traintop run` as other programs use it: streams and exit codes of the real process."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.programs import SMALL, environment, traintop

FIELDS = {
    *("event", "run_id", "outcome", "config", "train_runtime_s", "samples_per_s", "steady_samples_per_s", "updates"),
    *("train_loss", "eval_accuracy", "peak_used_mib", "peak_reserved_mib", "peak_allocated_mib", "vram_total_mib"),
    "message",
}
"""Of `run_finished`: other programs rely on these."""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, OMP_NUM_THREADS="1")


def test_json_is_one_object_per_line_and_ends_with_the_run(env: dict[str, str]) -> None:
    done = traintop("run", "--json", *SMALL, env=env)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    last = events[-1]
    assert last["event"] == "run_finished"
    assert set(last) >= FIELDS
    assert last["outcome"] == "completed"
    assert [event["update"] for event in events if event["event"] == "update_done"] == [1, 2, 3, 4]
    assert last["updates"] == 4
    assert last["config"]["batch_size"] == 2

    listed = traintop("runs", "--json", env=env)
    assert json.loads(listed.stdout) == last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--batch-size", "0"), ("--batch-size", "0", "1 to")),
        (("run", "--precision", "fp8"), ("--precision", "fp8", "fp16")),
        (("--batchsize", "4"), ("--batchsize", "--batch-size")),
        (("train",), ("train", "run")),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words: tuple[str, ...], said: tuple[str, ...], tmp_path: Path) -> None:
    done = traintop(*words, env=environment(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in said:
        assert part in done.stderr


NEEDS_PYTORCH = """
import sys
from tui.cli import main
code = main(sys.argv[1:])
print(code, [name for name in ("torch", "transformers", "datasets") if name in sys.modules])
"""


@pytest.mark.parametrize("command", ["run", "sweep", "forecast", "script"])
def test_a_file_that_is_missing_is_told_before_pytorch_loads(command: str, tmp_path: Path) -> None:
    env = environment(tmp_path)
    words = [command, "--data", "nowhere.csv", *(["--batch-size", "1,2"] if command == "sweep" else [])]
    done = subprocess.run(
        [sys.executable, "-c", NEEDS_PYTORCH, *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 []\n"
    assert "--data 'nowhere.csv' does not exist in" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow  # four programs that import PyTorch
def test_a_broken_file_takes_no_number_and_the_script_of_a_run_gives_its_losses(
    env: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"text,label\na,1\n" * 99)[:-9])
    assert "is cut short" in traintop("run", "--data", str(broken), env=env).stderr
    done = traintop("run", "--json", *SMALL, env=env)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["run_id"] == 1
    mine = [event["loss"] for event in events if event["event"] == "update_done"]

    script = tmp_path / "out" / "train.py"
    script.parent.mkdir()
    said = traintop("script", "--run", "1", "--output", str(script), env=env)
    assert said.returncode == 0, said.stderr
    alone = {name: value for name, value in env.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, str(script)], env=alone, cwd=script.parent, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    log = json.loads((script.parent / "trained" / "trainer_state.json").read_text())["log_history"]
    assert mine == pytest.approx([entry["loss"] for entry in log if "loss" in entry], abs=1e-5)


def test_a_script_of_no_run_is_wrong_usage(env: dict[str, str]) -> None:
    for words in (("--run", "7"), ("--run", "x"), ("--run", "1", "--batch-size", "2")):
        assert traintop("script", *words, env=env).returncode == 2
