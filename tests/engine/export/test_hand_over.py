"""A run as a command line and as TrainingArguments: read back by those who must understand them."""

from __future__ import annotations

import copy
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.records import DeviceInfo
from engine.export.hand_over import command_line, training_arguments
from tui.command_line.flags import Parser, add_knobs, config_of


def obeyed(line: str) -> RunConfig:
    """The configuration that the command line makes of the words."""
    program, command, *words = shlex.split(line)
    assert (program, command) == ("traintop", "run")
    parser = Parser(prog="traintop run", description="")
    add_knobs(parser)
    return config_of(parser.read(words))


def test_defaults_need_no_flag() -> None:
    assert command_line(RunConfig()) == "traintop run"


def test_only_what_differs_is_said() -> None:
    config = RunConfig(batch_size=16, gradient_checkpointing="on", dropout=False, learning_rate=1e-3)
    wanted = "traintop run --batch-size 16 --gradient-checkpointing on --learning-rate 0.001 --dropout off"
    assert command_line(config) == wanted


@pytest.mark.parametrize("workload", ["dummy", "reviews"])
def test_a_file_does_not_change_the_workload(workload: str) -> None:
    config = RunConfig(data="reviews.csv", workload=workload)
    assert obeyed(command_line(config)) == config


@pytest.mark.parametrize("text", ["a b", "it's; rm -rf $HOME", "-starts-with-a-dash.csv", "ü$(x)`y`"])
def test_text_is_quoted(text: str) -> None:
    config = RunConfig(workload="reviews", data=text, text_column=text)
    assert obeyed(command_line(config)) == config


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("text", ["new\nline", "\x1b[2J\x03", "quote'\t\\", "caf\udce9", "‮abc"])
def test_what_a_terminal_obeys_is_escaped(text: str) -> None:
    line = command_line(RunConfig(model=text))
    assert line.isprintable()
    script = line.replace("traintop run --model", "printf %s", 1)
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert said == text.encode("utf-8", "surrogateescape")


def test_what_no_argument_can_hold_is_replaced() -> None:
    assert "\0" not in command_line(RunConfig(model="a\0b"))
    assert command_line(RunConfig(model="\ud800\x01")).isascii()


def a_value(name: str) -> st.SearchStrategy[Any]:
    knob = KNOBS[name]
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.steps:
        return st.sampled_from(knob.steps)
    return st.just(getattr(RunConfig(), name)) if knob.kind is not bool else st.booleans()


@settings(max_examples=60)
@given(st.fixed_dictionaries({name: a_value(name) for name in KNOBS}))
def test_every_configuration_comes_back(values: dict[str, Any]) -> None:
    try:
        config = RunConfig(**values)
    except ConfigError:
        return
    assert obeyed(command_line(config)) == config


def made(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the source makes, in a folder of its own; this machine need not have the GPU that it asks for."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("transformers.training_args.is_torch_tf32_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.enable_tf32", lambda on: None)
    scope: dict[str, Any] = {}
    exec(compile(training_arguments(config), "handed over", "exec"), scope)
    return scope["arguments"]


def test_training_arguments_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        batch_size=16,
        gradient_accumulation_steps=4,
        gradient_checkpointing="every-second",
        epochs=2,
        learning_rate=3e-4,
        lr_scheduler="constant",
        max_grad_norm=0.0,
        seed=7,
        dataloader_num_workers=2,
        dataloader_prefetch_factor=4,
        workload="reviews",
        data="reviews.csv",
        device="cpu",
    )
    arguments = made(config, tmp_path, monkeypatch)
    assert arguments.per_device_train_batch_size == arguments.per_device_eval_batch_size == 16
    assert arguments.gradient_accumulation_steps == 4
    assert arguments.activation_checkpointing is True
    assert arguments.activation_checkpointing_kwargs == {"use_reentrant": False, "every_n_layers": 2}
    assert (arguments.num_train_epochs, arguments.max_steps) == (2, -1)
    assert (arguments.learning_rate, arguments.weight_decay, arguments.max_grad_norm) == (3e-4, 0.0, 0.0)
    assert (arguments.lr_scheduler_type, arguments.warmup_steps) == ("constant", 0)
    assert (arguments.seed, arguments.data_seed) == (7, 7)
    assert (arguments.dataloader_num_workers, arguments.dataloader_prefetch_factor) == (2, 4)
    assert arguments.dataloader_multiprocessing_context == "forkserver"
    assert (arguments.eval_strategy, arguments.save_strategy) == ("epoch", "no")
    assert arguments.use_cpu is True


@pytest.mark.parametrize(
    ("precision", "wanted"),
    [
        ("fp32", (False, False, False)),
        ("tf32", (False, False, True)),
        ("fp16", (True, False, False)),
        ("bf16", (False, True, False)),
    ],
)
def test_precision(precision: str, wanted: tuple[bool, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = made(RunConfig(precision=precision, device="cpu"), tmp_path, monkeypatch)
    assert (arguments.fp16, arguments.bf16, arguments.tf32) == wanted
    assert arguments.activation_checkpointing is False


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adafactor"])
@pytest.mark.parametrize("implementation", ["fused", "foreach"])
def test_the_trainer_would_step_the_same_way(
    optimizer: str, implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import Trainer

    from engine.techniques.optimizers import build_optimizer

    config = RunConfig(optimizer=optimizer, optimizer_implementation=implementation, learning_rate=1e-2, device="cpu")
    torch.manual_seed(0)
    ours = torch.nn.Linear(4, 3)
    theirs = copy.deepcopy(ours)
    reference = Trainer(model=theirs, args=made(config, tmp_path, monkeypatch)).create_optimizer()
    mine = build_optimizer(config, ours.parameters())
    for step in range(3):
        for model, used in ((ours, mine), (theirs, reference)):
            model.zero_grad()
            model(torch.cos(torch.arange(4.0) + step)).square().sum().backward()
            used.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()))


@pytest.mark.parametrize("implementation", KNOBS["optimizer_implementation"].choices)
@pytest.mark.parametrize("optimizer", KNOBS["optimizer"].choices)
def test_every_optimizer_is_known_to_transformers(optimizer: str, implementation: str) -> None:
    from transformers.training_args import OptimizerNames

    source = training_arguments(RunConfig(optimizer=optimizer, optimizer_implementation=implementation))
    named = source.partition("optim='")[2].partition("'")[0]
    assert named in {optimizer.value for optimizer in OptimizerNames}
    if implementation == "loop" and optimizer in ("adamw", "sgd"):
        assert "foreach=False" in source


OTHER_VALUES: dict[str, Any] = {
    "model": "some-org/some-model",
    "workload": "reviews",
    "data": "other.csv",
    "text_column": "body",
    "label_column": "stars",
    "vram_limit": 4096,
    "seed": 1,
    "device": "cuda:1",
    "max_grad_norm": 0.0,
}


@pytest.mark.parametrize("name", KNOBS)
def test_no_knob_is_forgotten(name: str) -> None:
    """Turning any knob changes the source, in the arguments or in the comments."""
    base = RunConfig(workload="reviews", data="reviews.csv", device="cuda", dataloader_num_workers=1, max_grad_norm=0.5)
    if name in ("optimizer_in_backward", "task"):
        base = replace(base, max_grad_norm=0.0, workload="dummy", data=None)
    if name == "workload":
        base = replace(base, workload="dummy")
    knob, now = KNOBS[name], getattr(base, name)
    options = (OTHER_VALUES[name],) if name in OTHER_VALUES else (*knob.choices, *knob.steps, not now)
    other = base.with_values(**{name: next(option for option in options if option != now)})
    assert training_arguments(base) != training_arguments(other)
    assert command_line(base) != command_line(other)


def test_hostile_text_ends_no_comment() -> None:
    """Also values that only a history of another version can hold."""
    config = RunConfig(model="x\nimport os", data="y\r\nimport os", workload="reviews")
    for name in ("task", "optimizer_implementation", "attention", "device"):
        object.__setattr__(config, name, "z\nimport os")
    lines = training_arguments(config).splitlines()
    assert [line for line in lines if line.startswith("import")] == []
    compile("\n".join(lines), "handed over", "exec")


def test_a_preset_is_handed_over_by_its_hub_name() -> None:
    source = training_arguments(RunConfig(model="bert-base-uncased", device="virtual:tesla-p4"))
    assert "from_pretrained('google-bert/bert-base-uncased'" in source
    assert "virtual tesla-p4" in source


def test_the_hand_over_names_the_card_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert "CUDA_VISIBLE_DEVICES=3\n" in training_arguments(RunConfig(device="cuda:1"))
    uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
    ran_on = DeviceInfo(name="Tesla P4", kind="cuda", index=1, uuid=uuid)
    for device in ("cuda:1", "free", "auto"):
        assert f"CUDA_VISIBLE_DEVICES={uuid}\n" in training_arguments(RunConfig(device=device), ran_on)
    assert "CUDA_VISIBLE_DEVICES=GPU-8932\n" in training_arguments(RunConfig(device="GPU-8932"))
    assert "3B:00" not in training_arguments(RunConfig(device="3b:00.0"))  # the variable takes no PCI address
