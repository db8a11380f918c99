"""`traintop run` as other programs use it: streams and exit codes of the real process."""

from __future__ import annotations

import json
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
