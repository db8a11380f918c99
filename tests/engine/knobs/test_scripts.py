"""A run of the user's own command from what was typed: whose flags it has is read in its source."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.knob import SCRIPT
from engine.contract.script_combinations import script_values
from engine.knobs.files import load_knobs, save_knobs
from engine.knobs.script_source import reads_training_arguments
from engine.knobs.scripts import note_of, run_of, with_command

HF = """
from dataclasses import dataclass
from transformers import HfArgumentParser, TrainingArguments

@dataclass
class DataTrainingArguments:
    words: int = 1

def main():
    parser = HfArgumentParser((DataTrainingArguments, TrainingArguments))
    data, args = parser.parse_args_into_dataclasses()
    print(args.per_device_train_batch_size, args.bf16, args.fp16, args.optim.value, args.learning_rate, args.seed)
    print(args.save_strategy.value, args.num_train_epochs, data.words)

if __name__ == "__main__":
    main()
"""
SOURCES = {
    "trl": ("from trl import TrlParser, SFTConfig\nparser = TrlParser((SFTConfig,))\n", True),
    "module": ("import transformers\np = transformers.HfArgumentParser(transformers.Seq2SeqTrainingArguments)\n", True),
    "derived": ("from transformers import *\nclass A(TrainingArguments): pass\nHfArgumentParser(A)\n", True),
    "no parser": ("from transformers import TrainingArguments\na = TrainingArguments('out')\n", False),
    "only data": ("class DataTrainingArguments: pass\nHfArgumentParser(DataTrainingArguments)\n", False),
    "in words": ('"""HfArgumentParser((TrainingArguments,))"""\nimport argparse\n', False),
    "no syntax": ("HfArgumentParser(TrainingArguments\n", False),
    "argparse": ("import argparse\np = argparse.ArgumentParser()\n", False),
}


@pytest.mark.parametrize("name", SOURCES)
def test_training_arguments_are_found_where_they_are_read_from_the_command_line(name: str, tmp_path: Path) -> None:
    source, reads = SOURCES[name]
    script = tmp_path / "train.py"
    script.write_text(source)
    assert reads_training_arguments(["python", str(script)]) is reads
    assert reads_training_arguments(["torchrun", "--nproc_per_node=2", str(script), "--seed=1"]) is reads


def test_what_is_not_there_or_no_text_is_no_such_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_bytes(b"\0HfArgumentParser(TrainingArguments)")
    monkeypatch.chdir(tmp_path)
    for command in (
        "python train.py",
        "python nowhere.py",
        "python -c pass",
        "python .",
        "sh -c true",
        "python -m no.x",
    ):
        assert not reads_training_arguments(command.split())


def test_trls_program_is_known_by_its_commands() -> None:
    assert reads_training_arguments(["trl", "sft", "--seed=1"])
    assert reads_training_arguments(["/opt/venv/bin/trl", "dpo"])
    assert not reads_training_arguments(["trl", "env"])
    assert not reads_training_arguments(["trl"])


def test_a_module_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "train.py").write_text(HF)
    (package / "__main__.py").write_text(HF)
    monkeypatch.chdir(tmp_path)
    assert reads_training_arguments(["python", "-m", "pkg.train"])
    assert reads_training_arguments(["python", "-m", "pkg"])
    assert "pkg" not in sys.modules
    monkeypatch.chdir("/")
    assert not reads_training_arguments(["python", "-m", "pkg.train"])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert reads_training_arguments(["python", "-m", "pkg.train"])


def test_a_file_that_has_all_flags_leaves_no_place_for_others(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(HF)
    assert not reads_training_arguments(["python", str(script), "args.json"])
    assert reads_training_arguments(["python", str(script), "--config", "args.yaml"])
    assert note_of(run_of({"command": f"python {script} --seed 1"})) is None
    assert note_of(run_of({"command": "python nowhere.py --config=args.yaml"})) is None  # nothing of it is read
    told = note_of(run_of({"command": f"python {script} --config=args.yaml"}))
    assert told == "What --config=args.yaml sets is not read: a knob of this run says what stands in the command alone."


def test_typed_flags_are_the_knobs_and_knobs_that_are_given_are_added(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(HF)
    command = f"python {script} --per_device_train_batch_size 32 --words 3 --bf16"
    config = run_of({"command": command})
    assert (config.command_flags, config.batch_size, config.precision) == ("transformers", 32, "bf16")
    turned = run_of({"command": command, "batch_size": "16", "learning_rate": "1e-4", "optimizer": "sgd"})
    assert (turned.batch_size, turned.learning_rate) == (16, 1e-4)
    assert run_of({"command": command, "command_flags": "own"}).script.knobs == ()  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="--batch-size is not in the command"):
        run_of({"command": command, "command_flags": "own", "batch_size": "16"})


def test_transformers_reads_what_is_passed(tmp_path: Path) -> None:
    """The parser itself, with the words that the knobs make."""
    script = tmp_path / "train.py"
    script.write_text(HF)
    turned = {"batch_size": 16, "precision": "fp32", "optimizer": "sgd", "learning_rate": 1e-4, "save_steps": 0}
    config = run_of({"command": f"{shlex.quote(sys.executable)} {script} --output_dir o --words 3 --bf16", **turned})
    assert config.script is not None
    words = config.script.filled(script_values(config))
    said = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert said.stdout.splitlines() == ["16 False False sgd 0.0001 42", "no 3.0 3"], said.stderr


def test_a_knob_begins_with_a_value_that_the_command_has_a_word_for() -> None:
    config = run_of({"command": "python nowhere.py --dtype={precision:bf16=bfloat16,fp16=float16}"})
    assert config.precision == "bf16"
    assert run_of({"command": config.command, "precision": "fp16"}).precision == "fp16"
    assert run_of({"command": "python nowhere.py {precision:bf16=--amp,*=}"}).precision == "fp32"


def test_another_command_keeps_what_it_still_carries() -> None:
    first = "python nowhere.py --b={batch_size} --n={width=64,128} --lr={learning_rate}"
    config = run_of({"command": first, "batch_size": 32, "learning_rate": 0.1, "command_values": "width=128"})
    other = with_command(config.with_values(device="cpu"), "python nowhere.py --n={width=128,256} -b {batch_size}")
    assert (other.batch_size, other.learning_rate, other.device) == (32, RunConfig().learning_rate, "cpu")
    assert other.script is not None
    assert other.script.own_values(other.command_values) == {"width": "128"}


def test_a_file_holds_the_command_and_what_it_carries_alone(tmp_path: Path) -> None:
    config = run_of(
        {"command": "python nowhere.py --b={batch_size} 'a b' --n={width=64,128}", "command_values": "width=128"}
    )
    config = config.with_values(batch_size=16, max_updates=20)
    path = tmp_path / "knobs.toml"
    save_knobs(config, path)
    written = load_knobs(path)
    assert set(written) == {
        "job",
        "command",
        "command_flags",
        "command_values",
        "batch_size",
        "device",
        "max_updates",
    }
    assert run_of(written) == RunConfig.from_dict(written) == config
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert RunConfig(job=SCRIPT) == run_of({"job": SCRIPT})
