"""Which word of a command is the script, and what people call it."""

from __future__ import annotations

import shlex

import pytest

from engine.contract.config import RunConfig
from engine.contract.knob import SCRIPT
from engine.contract.script_name import NO_COMMAND, script_name
from engine.contract.script_word import script_word


@pytest.mark.parametrize(
    ("command", "script", "name"),
    [
        ("python train.py --x 1", "train.py", "train.py"),
        ("python3.11 -u -W ignore -X dev src/train.py", "src/train.py", "train.py"),
        ("/opt/venv/bin/python -m pkg.train a.py", "pkg.train", "pkg.train"),
        ("python -m torch.distributed.run --nproc_per_node 2 t.py", "t.py", "t.py"),
        ("torchrun --nproc_per_node=2 --master_port 29500 train.py config.py", "train.py", "train.py"),
        ("torchrun --nproc_per_node=2 -m pkg.train", "pkg.train", "pkg.train"),
        ("accelerate launch --config_file c.yaml run_glue.py --seed 1", "run_glue.py", "run_glue.py"),
        ("deepspeed --num_gpus 2 train.py --deepspeed ds.json", "train.py", "train.py"),
        ("nice -n 5 python train.py", "train.py", "train.py"),
        ("env OMP_NUM_THREADS=1 python train.py", "train.py", "train.py"),
        ("uv run train.py", "train.py", "train.py"),
        ("bash -x scripts/train.sh a", "scripts/train.sh", "train.sh"),
        ("bash -c 'cd src && python train.py' x", None, "bash -c"),
        ("bash --norc -lc 'python train.py'", None, "bash -c"),
        ("./train --x", "./train", "train"),
        ("trl sft --model x", "trl", "trl"),
        ("python -c 'import x' train.py", None, "python -c"),
        ("python -", None, "python -"),
        ("python", None, "python"),
        ("'a run {{x}}'", "a run {{x}}", "a run {x}"),
        ("python '{script=a.py,b.py}'", "{script=a.py,b.py}", "{script=a.py,b.py}"),
    ],
)
def test_the_script_is_found_behind_python_and_launchers(command: str, script: str | None, name: str) -> None:
    words = shlex.split(command)
    found = script_word(words)
    assert (None if found is None else words[found.at]) == script
    assert script_name(RunConfig(job=SCRIPT, command=command)) == name


def test_no_command_has_no_name() -> None:
    assert script_name(RunConfig(job=SCRIPT)) == NO_COMMAND
