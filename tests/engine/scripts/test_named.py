"""What a command's names say that it trains, and what is said where they say nothing."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.forecast_types import ForecastError
from engine.contract.knob import SCRIPT
from engine.contract.script_flags import all_turned
from engine.knobs.scripts import run_of
from engine.scripts.names import flag_names as names
from engine.scripts.names.named import Named, named
from engine.session.forecasts import Terms, forecast_all, forecast_scripts

RUN_CLM = """
from dataclasses import dataclass, field
from typing import Optional
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default=None, metadata={"help": "The checkpoint."})
    dtype: Optional[str] = field(default=None)

@dataclass
class DataTrainingArguments:
    block_size: Optional[int] = field(default=None)

def main():
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
    Trainer(model=model, args=training_args).train()
"""
RUN_GLUE = """
from dataclasses import dataclass, field
from transformers import AutoModelForSequenceClassification, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class DataTrainingArguments:
    max_seq_length: int = field(default=128)
    pad_to_max_length: bool = field(default=True)

@dataclass
class ModelArguments:
    model_name_or_path: str = field(metadata={"help": "Path"})

parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
"""
NO_TRAINER = """
import argparse
import torch
from accelerate import Accelerator
from transformers import AutoModelForSequenceClassification, get_scheduler

parser = argparse.ArgumentParser()
parser.add_argument("--max_length", type=int, default=128)
parser.add_argument("--pad_to_max_length", action="store_true")
parser.add_argument("--model_name_or_path", type=str, required=True)
parser.add_argument("--per_device_train_batch_size", type=int, default=6)
parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
args = parser.parse_args()
model = AutoModelForSequenceClassification.from_pretrained(args.model_name_or_path)
optimizer = torch.optim.AdamW(model.parameters())
"""
SFT = """
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config
parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
"""
OWN = """
import argparse
from transformers import GPT2LMHeadModel
parser = argparse.ArgumentParser()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sources = {"run_clm": RUN_CLM, "run_glue": RUN_GLUE, "no_trainer": NO_TRAINER, "sft": SFT, "own": OWN}
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    return tmp_path


def read(command: str, **knobs: object) -> Named:
    return named(run_of({"command": command, **knobs}))


def turned(made: Named) -> dict[str, object]:
    """The knobs that are not at their default."""
    usual = RunConfig()
    values = made.config.to_dict()
    return {name: value for name, value in values.items() if value != getattr(usual, name) and name != "samples"}


@pytest.mark.usefixtures("folder")
def test_the_flags_of_the_trainer_are_read() -> None:
    made = read(
        "torchrun --nproc_per_node=2 run_clm.py --model_name_or_path gpt2 --block_size 256 --dtype bfloat16 "
        "--per-device-train-batch-size 4 --gradient_accumulation_steps 3 --bf16 --gradient_checkpointing True "
        "--optim adamw_torch --max_grad_norm 0 --attn_implementation eager"
    )
    assert turned(made) == {
        "model": "gpt2",
        "task": "causal-lm",
        "seq_len": 256,
        "weights": "bf16",
        "batch_size": 4,
        "gradient_accumulation_steps": 3,
        "precision": "bf16",
        "gradient_checkpointing": "on",
        "optimizer_implementation": "foreach",
        "max_grad_norm": 0.0,
        "attention": "eager",
        "gpus": 2,
    }
    assert made.loop == "trainer"
    assert made.assumed == ()  # blocks are full, and all else is said


@pytest.mark.usefixtures("folder")
def test_what_is_left_open_is_as_the_trainer_has_it_and_is_said() -> None:
    made = read("python run_clm.py --model_name_or_path gpt2")
    assert turned(made) == {"model": "gpt2", "task": "causal-lm", "seq_len": 1024}
    assert [each.split(",")[0] for each in made.assumed] == [
        "assumed: batch size 8",
        "assumed: --optim adamw_torch_fused",
        "assumed: weights in fp32",
        "assumed: 1",
    ]
    assert all(each.startswith("assumed: ") and each.endswith(".") for each in made.assumed)


@pytest.mark.usefixtures("folder")
def test_the_defaults_of_the_source_are_the_scripts_own() -> None:
    made = read("python run_glue.py --model_name_or_path bert-base-uncased --bf16 False")
    assert turned(made) == {"model": "bert-base-uncased", "seq_len": 128}
    assert not any("128 tokens" in each for each in made.assumed)  # all are padded to it
    shorter = read("python run_glue.py --model_name_or_path bert-base-uncased --no_pad_to_max_length")
    assert "assumed: every sample has 128 tokens: with shorter ones it takes less." in shorter.assumed


@pytest.mark.usefixtures("folder")
def test_a_loop_without_a_trainer_holds_what_a_scripts_loop_holds() -> None:
    made = read("accelerate launch --mixed_precision fp16 no_trainer.py --model_name_or_path bert-mini")
    assert made.loop == "script"
    assert turned(made) == {
        "model": "bert-mini",
        "seq_len": 128,
        "batch_size": 6,
        "precision": "fp16",
        "optimizer_implementation": "foreach",
        "max_grad_norm": 0.0,
    }
    assert "assumed: accelerate launches one process." in made.assumed


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("program", ["python sft.py", "trl sft"])
def test_trl_with_lora_beside_four_bits(program: str) -> None:
    made = read(
        f"{program} --model_name_or_path Qwen/Qwen2.5-0.5B --use_peft --lora_r 32 --load_in_4bit --packing "
        "--lora_target_modules q_proj v_proj --per_device_train_batch_size 2"
    )
    values = turned(made)
    assert values["lora_rank"] == 32
    assert values["lora_targets"] == "q_proj,v_proj"
    assert (values["weights"], values["precision"], values["gradient_checkpointing"]) == ("nf4", "bf16", "on")
    assert values["seq_len"] == 1024
    assert "assumed: gradient checkpointing, as SFTConfig has it." in made.assumed


@pytest.mark.usefixtures("folder")
def test_placeholders_are_names_whatever_the_flags_are_called() -> None:
    command = "python own.py --net={model} --bs={batch_size} --len={seq_len} --amp={precision:bf16=1,fp32=0}"
    made = read(command, model="gpt2", batch_size=5, seq_len=96, precision="bf16")
    assert turned(made) == {
        "model": "gpt2",
        "task": "causal-lm",
        "batch_size": 5,
        "seq_len": 96,
        "precision": "bf16",
        "optimizer": "sgd",
        "optimizer_implementation": "foreach",
    }


def test_a_knob_that_is_turned_is_what_is_forecast(folder: Path) -> None:
    config = run_of({"command": "python run_clm.py --model_name_or_path gpt2 --optim adafactor"})
    bigger = all_turned(config, {"batch_size": 32})
    assert named(bigger).config.batch_size == 32
    assert named(bigger).config.optimizer == "adafactor"
    (folder / "args.json").write_text(json.dumps({"model_name_or_path": "gpt2", "bf16": True, "block_size": 64}))
    of_file = read("python run_clm.py args.json").config
    assert (of_file.model, of_file.precision, of_file.seq_len) == ("gpt2", "bf16", 64)


def test_weights_are_stored_as_the_models_files_say(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "config.json").write_text(json.dumps({"dtype": "bfloat16", "max_position_embeddings": 256}))
    made = read("python run_clm.py --model_name_or_path ./mine")
    assert (made.config.weights, made.config.seq_len) == ("bf16", 256)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sleep 3", "sleep is no Python file"),
        ("python -c pass", "is no script whose flags are known"),
        ("python missing.py --model_name_or_path gpt2", "missing.py is no Python file that is found here"),
        ("python run_clm.py --block_size 64", "it names no model"),
        ("python run_clm.py config.yaml", "config.yaml is not read"),
        ("python run_clm.py --model_name_or_path gpt2 --deepspeed ds.json", "DeepSpeed decides"),
        ("deepspeed run_clm.py --model_name_or_path gpt2", "its launcher decides"),
        ("accelerate launch --config_file a.yaml run_clm.py --model_name_or_path gpt2", "the file of its settings"),
        ("torchrun --nnodes 2 run_clm.py --model_name_or_path gpt2", "it runs on 2 machines"),
        ("torchrun --nproc_per_node gpu run_clm.py --model_name_or_path gpt2", "no number of GPUs"),
        ("python run_clm.py --model_name_or_path gpt2 --optim lion_8bit", "--optim lion_8bit is not forecast"),
        ("python sft.py --config sft.yaml", "the file of its settings"),
        ("python own.py --model_name gpt2 --batch_size 4", "it names no length of a sample"),
        ("python own.py --model_name gpt2 --seq_length 4", "it names no batch size"),
    ],
)
def test_what_is_not_named_has_no_forecast_but_a_reason(command: str, why: str) -> None:
    with pytest.raises(ForecastError, match=why) as raised:
        read(command)
    assert str(raised.value).startswith("no forecast for this command: ")


def test_the_defaults_are_those_of_the_installed_trainer() -> None:
    from transformers import TrainingArguments
    from transformers.training_args import OptimizerNames

    of_trainer = {field.name: field.default for field in fields(TrainingArguments)}
    assert {name: of_trainer[name] for name in names.OF_TRAINER} == names.OF_TRAINER
    assert set(names.OPTIMIZERS) - {"adamw_hf"} <= {each.value for each in OptimizerNames}


@pytest.mark.usefixtures("folder")
def test_the_forecast_is_that_of_the_training_with_what_is_assumed_before_its_notes() -> None:
    command = "python no_trainer.py --model_name_or_path bert-tiny --per_device_train_batch_size={batch_size}"
    config = run_of({"command": command, "batch_size": 3})
    assert config.job == SCRIPT
    (training,), (made,) = forecast_scripts([config], Terms(gpu="tesla-p4"))
    plain = RunConfig(
        model="bert-tiny", seq_len=128, batch_size=3, max_grad_norm=0.0, optimizer_implementation="foreach"
    )
    (same,) = forecast_all([plain], Terms(gpu="tesla-p4", loop="script"))
    assert training.with_values(samples=plain.samples) == plain
    assert (made.peak_used, made.peak_allocated) == (same.peak_used, same.peak_allocated)
    assert made.notes[0].startswith("assumed: adamw as PyTorch makes it by default")
    assert set(same.notes) < set(made.notes)
