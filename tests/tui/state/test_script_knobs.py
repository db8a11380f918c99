"""The knobs of a user's own command: turning them, those of its own, what it does not carry, the way to it and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.records import DeviceInfo
from engine.contract.script_combinations import script_values
from engine.contract.script_name import script_name
from tests.tui import fake_scripts
from tests.tui.fake_session import CPU, GPU
from tui.state.knob_list import OTHERS, Row, about, every_row, in_groups
from tui.state.knobs import KnobEditor, changed_rows, describe, said, said_row, turned, why
from tui.state.script_knobs import NOT_CARRIED, SCRIPTS_OWN, is_same_command
from tui.state.script_plans import script_plans

A100 = DeviceInfo(name="NVIDIA A100-SXM4-40GB", kind="cuda", index=0, memory_total=40960 * 2**20)

BLOCK = Row(SCRIPT, "command_values", "block_size")


def filled(config: RunConfig) -> str:
    """The command as it is run."""
    assert config.script is not None
    return " ".join(config.script.filled(script_values(config)))


@pytest.fixture
def editor() -> KnobEditor:
    return KnobEditor(fake_scripts.LOOP)


def test_a_carried_knob_is_turned(editor: KnobEditor) -> None:
    assert editor.step("batch_size", 1)
    assert "--batch_size=16 " in filled(editor.config)
    assert editor.step("precision", 1)
    assert editor.config.precision == "fp32"
    assert "--dtype=float32" in filled(editor.config)


def test_a_value_without_a_word_is_refused(editor: KnobEditor) -> None:
    assert not editor.type("precision", "fp16")
    assert editor.problem is not None
    assert "no word for precision fp16" in editor.problem.message
    assert editor.config == fake_scripts.LOOP


def test_a_step_passes_over_what_it_has_no_word_for(editor: KnobEditor) -> None:
    seen = []
    for _ in range(3):
        assert editor.step("precision", 1)
        seen.append(editor.config.precision)
    assert seen == ["fp32", "bf16", "fp32"]


@pytest.mark.parametrize(
    ("words", "device", "offered"),
    [
        ("", GPU, ["fp16", "bf16", "fp32"]),  # a Tesla P4
        ("", A100, ["tf32", "fp16", "bf16"]),
        (" --use_cpu", CPU, ["bf16", "fp32", "bf16"]),
        ("", None, ["tf32", "fp16", "bf16"]),
    ],
)
def test_a_step_passes_over_what_the_trainer_refuses_there(
    words: str, device: DeviceInfo | None, offered: list[str]
) -> None:
    command = f"{fake_scripts.TRAINER.command}{words}"
    editor = KnobEditor(replace(fake_scripts.TRAINER, command=command))
    seen = []
    for _ in range(3):
        assert editor.step("precision", 1, device=device)
        seen.append(editor.config.precision)
    assert seen == offered


def test_where_the_trainer_has_one_precision_alone_it_is_said() -> None:
    editor = KnobEditor(fake_scripts.TRAINER)
    assert not editor.step("precision", 1, device=CPU)
    assert editor.config == fake_scripts.TRAINER
    assert editor.problem is not None
    assert editor.problem.message == (
        "On a CPU the Trainer computes in fp32; in bf16 where --use_cpu is in the command."
    )
    assert "precision" not in {plan.title.rpartition(" ")[2] for plan in script_plans(fake_scripts.TRAINER, CPU)}


def test_a_knob_of_its_own_goes_round_its_values(editor: KnobEditor) -> None:
    editor.select("command_values", "block_size")
    seen = []
    for _ in range(3):
        assert editor.step("command_values", 1)
        seen.append(said_row(editor.config, BLOCK))
    assert seen == ["512", "1024", "256"]
    assert editor.step("command_values", -1)
    assert "--block_size=1024 " in filled(editor.config)
    assert editor.list.cursor == BLOCK
    assert [row.own for row in editor.undo()] == ["block_size"]
    assert said_row(editor.config, BLOCK) == "256"


def test_any_other_value_of_its_own_can_be_typed(editor: KnobEditor) -> None:
    assert editor.type("command_values", " 300 ", "block_size")
    assert "--block_size=300 " in filled(editor.config)
    editor.step("command_values", 1)
    assert said_row(editor.config, BLOCK) == "256"


def test_what_is_not_carried_says_so_and_how_it_would_be(editor: KnobEditor) -> None:
    assert said(editor.config, "learning_rate") == NOT_CARRIED
    assert not editor.step("learning_rate", 1)
    assert editor.problem is not None
    assert "put {learning_rate} where its value belongs" in editor.problem.message
    assert editor.list.cursor == Row(OTHERS, "learning_rate")
    assert why(editor.config, Row(OTHERS, "learning_rate")) == editor.problem.message


def test_a_script_with_trainings_arguments_has_every_knob_of_them() -> None:
    editor = KnobEditor(fake_scripts.TRAINER)
    assert said(editor.config, "learning_rate") == SCRIPTS_OWN
    assert editor.step("learning_rate", 1)
    assert said(editor.config, "learning_rate") == "0.0001"
    assert filled(editor.config).endswith(" --per_device_train_batch_size=32 --learning_rate=0.0001")
    assert turned(fake_scripts.TRAINER, editor.config) == f"learning rate {SCRIPTS_OWN} → 0.0001"
    assert [row.knob for row in changed_rows(fake_scripts.TRAINER, editor.config)] == ["learning_rate"]
    assert not editor.step("lora_rank", 1)
    assert said(editor.config, "lora_rank") == NOT_CARRIED


def test_another_command_keeps_what_it_carries_too(editor: KnobEditor) -> None:
    editor.set_value("batch_size", 32)
    editor.type("command_values", "1024", "block_size")
    assert editor.type("command", "python other.py {batch_size} {block_size=512,1024}")
    assert filled(editor.config) == "python other.py 32 1024"
    assert editor.config.precision == "fp32"
    assert editor.type("command", "python third.py")
    assert filled(editor.config) == "python third.py"
    assert not editor.type("command", "python 'third.py")
    assert editor.problem is not None
    assert editor.problem.knob == "command"


def test_the_groups_of_what_a_command_carries_are_open(editor: KnobEditor) -> None:
    assert SCRIPT in editor.list.opened
    editor.type("command", "python train.py --lr={learning_rate}")
    assert "optimizer" in editor.list.opened


def test_the_jobs_go_round_with_the_script_where_its_command_is_known() -> None:
    editor = KnobEditor(RunConfig(device="virtual:tesla-p4"))
    jobs = []
    for _ in range(2):
        editor.step("job", 1)
        jobs.append(editor.config.job)
    assert jobs == [ANSWER, TRAIN]
    editor.load(fake_scripts.LOOP)
    editor.step("batch_size", 1)
    jobs.clear()
    for _ in range(3):
        editor.step("job", 1)
        jobs.append(editor.config.job)
    assert jobs == [TRAIN, ANSWER, SCRIPT]
    assert editor.config == fake_scripts.LOOP.with_values(batch_size=16)


def test_each_job_keeps_its_device_beside_a_script() -> None:
    editor = KnobEditor(RunConfig(device="virtual:tesla-p4", vram_limit=4000))
    assert editor.take_job(SCRIPT)
    assert editor.config.device == "auto"
    assert editor.type("command", "python train.py")
    assert editor.take_job(TRAIN)
    assert editor.config == RunConfig(device="virtual:tesla-p4", vram_limit=4000)
    assert editor.knows_command


def test_commands_are_the_same_but_for_what_knobs_fill() -> None:
    bare = RunConfig(job=SCRIPT, command="python train.py --epochs 3")
    carrying = bare.with_values(command="python train.py --epochs 3 --batch={batch_size} {block_size=1,2}")
    assert is_same_command(bare, carrying)
    assert not is_same_command(bare, bare.with_values(command="python train.py --epochs 4"))
    assert [row.knob for row in changed_rows(bare, carrying)] == ["batch_size", "command_values"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python /home/me/work/train.py --x=1", "train.py"),
        ("torchrun --nproc_per_node=2 train.py", "train.py"),
        ("python -m trl.scripts.sft --model_name_or_path gpt2", "trl.scripts.sft"),
        ("accelerate launch --num_processes 1 nlp_example.py --cpu", "nlp_example.py"),
        ("./run.sh", "run.sh"),
        ("make train", "make"),
    ],
)
def test_a_command_is_called_by_its_script(command: str, name: str) -> None:
    assert script_name(RunConfig(job=SCRIPT, command=command)) == name


def test_a_script_and_a_training_differ_in_the_job() -> None:
    assert turned(fake_scripts.LOOP, RunConfig(samples=64)) == "job script → train"
    assert turned(RunConfig(), fake_scripts.LOOP) == "job train → script"


def test_a_command_in_a_few_words() -> None:
    assert describe(fake_scripts.LOOP) == (
        "train.py, batch size 8, accumulation 1, precision bf16, block_size 256, dropout_rate 0.0"
    )
    assert describe(RunConfig(job=SCRIPT)) == "no command"


def test_groups_with_nothing_to_turn_are_one_line(editor: KnobEditor) -> None:
    headings = [row.group for row in editor.list.rows(fake_scripts.BARE) if row.group and not row.knob]
    assert headings == ["script", "where", OTHERS]
    assert "learning_rate" in in_groups(fake_scripts.BARE)[OTHERS]
    every = {row.knob for row in every_row(fake_scripts.BARE)}
    assert every == {row.knob for row in every_row(fake_scripts.TRAINER)}  # all can be found
    editor.select("learning_rate")
    assert editor.list.cursor == Row(OTHERS, "learning_rate")
    headings = [row.group for row in editor.list.rows(fake_scripts.TRAINER) if row.group and not row.knob]
    assert "optimizer" in headings
    assert about(OTHERS, fake_scripts.BARE) == "put {NAME} where a knob's value belongs, as in --lr={learning_rate}"
