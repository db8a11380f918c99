"""The text that `traintop forecast` prints: every heading whole, whatever is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.forecast_types import AnswerForecast, Forecast
from engine.contract.knob import ANSWER
from engine.forecast.loops import LOOPS
from engine.tracing.stack import STACKS
from tests.tui.app.test_forecast import forecast
from tui.cli import main
from tui.command_line.flags import Parser
from tui.commands.forecast import _configs, _text, add_flags

TURNED = RunConfig(
    model="/a/long/path/that/leads/to/my-checkpoint",
    precision="bf16",
    optimizer_implementation="foreach",
    gradient_accumulation_steps=4,
    seq_len=128,
    lora_rank=4,
    epochs=2,
    dropout=False,
)

UNTOLD = AnswerForecast(
    kv_per_token=4096,
    kv_cache=2**20,
    most_tokens=None,
    largest_batch=None,
    ttft_s=None,
    tpot_s=None,
    prompt_tokens_per_s=None,
    generation_tokens_per_s=None,
    bound=None,
)
"""Of weights whose speed nobody knows."""


def test_headings_are_whole_and_a_folder_is_called_by_its_name() -> None:
    many = [
        TURNED.with_values(batch_size=size, gradient_checkpointing=how, attention=attention, padding=padding)
        for size in (1, 2)
        for how in ("off", "on")
        for attention in ("sdpa", "eager")
        for padding in ("longest", "bucketed")
    ]
    text = _text(many, [forecast()] * len(many))
    title, _, heading = text.splitlines()[:3]
    assert title.strip() == "my-checkpoint on Tesla P4, 7611 MiB"
    for word in ("batch size", "checkpointing", "attention", "padding", "used MiB", "reserved", "allocated", "verdict"):
        assert word in heading
    assert "…" not in text
    said = next(line for line in text.splitlines() if line.startswith("In every row: "))
    assert said.split(": ")[1].split(" · ") == [
        "accumulation 4",
        "precision bf16",
        "implementation foreach",
        "LoRA rank 4",
        "sequence length 128",
        "epochs 2",
        "dropout off",
    ]


def test_one_configuration_fits_a_narrow_terminal() -> None:
    lines = _text([TURNED], [forecast()]).splitlines()
    with_values = next(line for line in lines if line.startswith("With: "))
    assert "precision bf16" in with_values
    table = lines[: lines.index(with_values)]
    assert max(len(line.rstrip()) for line in table) <= 100


def test_what_does_not_fit_says_by_how_much() -> None:
    text = _text([TURNED], [forecast(7837)])
    assert "It dies in backward, asking for 20 MiB where 14 are free: 6 MiB too much." in text


def test_what_is_true_of_one_row_is_said_of_it() -> None:
    rows = [forecast(notes=("Rough.",)), forecast(notes=("It fits although.", "Rough."))]
    lines = _text([TURNED, TURNED.with_values(batch_size=2 * TURNED.batch_size)], rows).splitlines()
    assert lines[-2:] == ["Rough.", f"batch size {2 * TURNED.batch_size}: It fits although."]


def test_the_help_says_that_a_verdict_is_no_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["forecast", "--help"])
    assert left.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "The exit code is 0 whatever the verdict, also where nothing fits" in told
    assert "The lecture's tables need the lecture's" in told


def test_the_help_names_every_stack_and_loop() -> None:
    parser = Parser(prog="traintop forecast", description="")
    add_flags(parser)
    named = {action.dest: str(action.metavar).split("|") for action in parser._actions}
    assert sorted(named["stack"]) == sorted(STACKS)
    assert sorted(named["loop"]) == sorted(LOOPS)


def test_a_range_has_a_column_where_there_is_one() -> None:
    unsure = forecast(used_range=(6950 * 2**20, 7180 * 2**20))
    assert "6950 – 7180" in _text([TURNED], [unsure])
    assert "from – to" not in _text([TURNED], [forecast()])


@pytest.mark.parametrize(("task", "unit"), [("causal-lm", "~requests/s"), ("classification", "~samples/s")])
def test_the_unit_of_answers_is_theirs_also_where_the_speed_of_a_row_is_not_told(task: str, unit: str) -> None:
    config = RunConfig(job=ANSWER, task=task, weights="nf4")
    untold = replace(forecast(), answer=UNTOLD, samples_per_s=None)
    assert unit in _text([config], [untold]).splitlines()[2]


def _several(gpus: int, parallel: str, **known: float) -> Forecast:
    by_rank = (
        tuple(range(7_000 * 2**20, (7_000 + gpus) * 2**20, 2**20)) if parallel == "zero1" else (3006 * 2**20,) * gpus
    )
    made = replace(forecast(max(by_rank) // 2**20), gpus=gpus, parallel=parallel, peak_used_by_rank=by_rank)
    return replace(made, **known)


def test_several_gpus_are_one_sentence() -> None:
    config = RunConfig(gpus=8, parallel="fsdp")
    text = _text([config], [_several(8, "fsdp", speedup=6.9, wait_share=0.12)])
    assert "8 × fsdp: 3,006 MiB/GPU, 6.9 × faster, 12 % waiting." in text
    assert "MiB/GPU" in text.splitlines()[2]
    uneven = _text([config.with_values(parallel="zero1", gpus=2)], [_several(2, "zero1", speedup=0.5)])
    assert "2 × zero1: 7,001 MiB/GPU, 2.0 × slower; by GPU 7000, 7001 MiB." in uneven


def test_what_several_gpus_come_to_has_columns_where_there_are_some() -> None:
    one, eight = RunConfig(), RunConfig(gpus=8)
    text = _text([one, eight], [forecast(), _several(8, "ddp", speedup=7.5, wait_share=0.06)])
    heading = text.splitlines()[2]
    for word in ("GPUs", "MiB/GPU", "× one GPU", "waiting %"):
        assert word in heading
    assert "waiting" not in _text([one], [forecast()])
    unknown = _text([eight], [_several(8, "ddp")])
    assert "faster" not in unknown


def test_of_one_gpu_ways_of_dividing_are_one_row() -> None:
    parser = Parser(prog="traintop forecast", description="")
    add_flags(parser)
    arguments = parser.parse_args(["--gpu", "h200", "--gpus", "1,2", "--parallel", "ddp,zero1,fsdp"])
    configs, several = _configs(arguments)
    assert several
    assert [(config.gpus, config.parallel) for config in configs] == [
        (1, "ddp"),
        (2, "ddp"),
        (2, "zero1"),
        (2, "fsdp"),
    ]


SCRIPT = """
import argparse, torch
from transformers import AutoModelForSequenceClassification
parser = argparse.ArgumentParser()
parser.add_argument("--max_length", type=int, default=32)
parser.add_argument("--model_name_or_path")
parser.add_argument("--bs", type=int)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""


def test_a_script_is_forecast_by_what_its_command_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    Path("train.py").write_text(SCRIPT)
    command = ["--", "python", "train.py", "--model_name_or_path", "bert-mini", "--bs={batch_size}"]
    assert main(["forecast", "--gpu", "tesla-p4", "--batch-size", "2,4", *command]) == 0
    told = capfd.readouterr().out
    assert told.splitlines()[0].strip() == "bert-mini on Tesla P4, 7611 MiB"
    assert "assumed: every sample has 32 tokens: with shorter ones it takes less." in told
    assert "The loop is a script's" in told
    assert main(["forecast", "--gpu", "tesla-p4", "--batch-size", "2,4", "--json", *command]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["read_as"]["batch_size"] for row in rows] == [2, 4]
    assert rows[0]["read_as"]["optimizer"] == "sgd"
    assert rows[0]["config"]["command"] == "python train.py --model_name_or_path bert-mini --bs={batch_size}"
    assert rows[0]["peak_allocated_mib"] < rows[1]["peak_allocated_mib"]


def test_a_script_that_names_nothing_has_no_forecast_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("import torch\n")
    assert main(["forecast", "--gpu", "tesla-p4", "--", "python", "train.py"]) == 4
    assert capfd.readouterr().err == (
        "traintop forecast: no forecast for this command: it names no model (--model_name_or_path)\n"
    )
