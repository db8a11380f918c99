"""The user's own command behind `--`: taken word by word, and refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.knob import SCRIPT, TRAIN
from engine.contract.script_combinations import script_values
from tui import cli
from tui.command_line.flags import Parser, add_knobs, config_of
from tui.command_line.script_command import trouble

HOSTILE = ["a b", "it's", "$HOME", "new\nline", "ü→", '{"a": 1}', "--", "", "*", "-x"]


def asked(*words: str) -> RunConfig:
    parser = Parser(prog="traintop run", description="")
    parser.take_command("traintop run -- python train.py")
    add_knobs(parser, TRAIN)
    return config_of(parser.read(words))


def test_the_command_is_taken_word_by_word() -> None:
    config = asked("--batch-size", "4", "--", "python", "nowhere.py", *HOSTILE, "--b={batch_size}")
    assert config.job == SCRIPT
    assert config.script is not None
    assert config.script.filled(script_values(config)) == ["python", "nowhere.py", *HOSTILE, "--b=4"]


def test_a_flag_says_the_same_and_a_file_too(tmp_path: Path) -> None:
    config = asked("--", "python", "nowhere.py", "--n={width=64,128}")
    assert asked("--job", "script", "--command", "python 'nowhere.py' \"--n={width=64,128}\"") == config
    assert asked("--command", "python nowhere.py --n={width=64,128}") == config
    path = tmp_path / "knobs.toml"
    asked("--command-values", "width=128", "--save-config", str(path), "--", *(config.script or config).words)  # type: ignore[union-attr]
    assert asked("--config", str(path)).command_values == "width=128"
    assert asked("--config", str(path), "--command-values", "width=64") == config


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        (["train.py", "--n=n=1", "--n=2"], "'--n={n=1,2}'"),
        (["train.py", "--block-size=block_size=256", "--block-size=512"], "'--block-size={block_size=256,512}'"),
        (["train.py", "--n", "n=1", "2"], "'{n=1,2}'"),
        (["train.py", "--dtype=precision:bf16=b", "--dtype=fp32=f"], "'--dtype={precision:bf16=b,fp32=f}'"),
        (["train.py", "precision:bf16=b", "fp32=f"], "'{precision:bf16=b,fp32=f}'"),
    ],
)
def test_braces_that_the_shell_has_taken_apart_are_found(command: list[str], quoted: str) -> None:
    told = trouble(command)
    assert told is not None
    assert told.endswith(f"put the word in quotes, {quoted}.")


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "--opt=lr=0.1", "--opt=momentum=0.9"],
        ["train.py", "model=lr:0.1", "model=x"],
        ["train.py", "a=1", "b=2"],
        ["train.py", "--url=http://x:1=2", "--url=b"],
        ["train.py", "--n={n=1,2}"],
    ],
)
def test_what_looks_alike_and_is_meant_so_is_left(command: list[str]) -> None:
    assert trouble(command) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--"], "there is no command after --"),
        (["run", "--", ""], "there is no command after --"),
        (["run", "--job", "script"], "There is no command: give it after --"),
        (["run", "--command", "a", "--", "b"], "--command and what stands after -- are both a command"),
        (["run", "--batch-size", "4", "--", "true"], "put {batch_size} where its value belongs"),
        (["run", "--gpus", "2", "--", "true"], "let torchrun start your script"),
        (["run", "--device", "virtual:tesla-p4", "--", "true"], "use --device auto, cpu or cuda"),
        (["run", "--", "true", "{batchsize}"], "did you mean {batch_size}?"),
        (["run", "--command-values", "n=1", "--", "true"], "the command has no knob n of its own (it has none)"),
        (["run", "--", "surely-not-there", "x"], "The command surely-not-there is not there"),
        (["run", "--job", "train", "--", "true"], "--command"),
        (["run", "--job", "answer"], "use traintop answer"),
        (["run", "--resume", "1", "--", "true"], "give your script its own flag"),
        (["sweep", "--", "true"], "nothing to sweep"),
        (["sweep", "--until-oom", "--", "true"], "put {batch_size} where its value belongs"),
        (["sweep", "--until-oom", "--device", "cpu", "--", "true", "{batch_size}"], "use a CUDA GPU"),
        (["sweep", "--plan", "batch-size", "--", "true"], "--plan has runs of traintop's own"),
        (["sweep", "--command-values", "n=1,2", "--", "true"], "the command has no knob n of its own"),
        (["script", "--command", "true"], "a script of your own already"),
        (["script", "--", "true"], "a script of your own already"),
        (["report", "--", "true"], "as in traintop run -- python train.py"),
        (["run", "python", "train.py"], "after --, as in traintop run -- python train.py"),
        (["python", "train.py"], "as in traintop -- python train.py"),
        (["--", "true", "--b={batch_size=1,2}"], "is a knob and has its values"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    assert cli.main(words) == 2
    told = capfd.readouterr()
    assert says in told.err
    assert told.out == ""
    assert "Traceback" not in told.err


@pytest.mark.parametrize("command", [[], ["run"], ["sweep"]])
def test_the_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert " ".join(["\n  traintop", *command]) in text.partition("A command after --")[2]
    assert "-- python train.py --batch_size={batch_size}" in text
