"""A run that goes on with a checkpoint is, to the last bit, the run that was never cut short."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.events import TrainingStarted
from engine.contract.records import Outcome
from engine.training.saving.places import checkpoints_in
from tests.engine.training.saving.whole_runs import Whole, do, newest, small

TEXT: dict[str, Value] = {"workload": "text", "task": "causal-lm", "padding": "packed", "seq_len": 32, "samples": 16}
KINDS: dict[str, tuple[str, dict[str, Value]]] = {
    "adamw": ("bert", {}),
    "lora": ("bert", {"lora_rank": 4, "padding": "bucketed"}),
    "packed": ("gpt2", TEXT),
    "in backward": ("bert", {"optimizer_in_backward": True, "gradient_accumulation_steps": 1, "max_grad_norm": 0.0}),
    "a real fine-tune": (
        "bert",
        {
            "weight_decay": 0.1,
            "warmup_steps": 0.5,
            "lr_scheduler": "cosine",
            "class_weights": "balanced",
            "label_smoothing_factor": 0.1,
            "eval_steps": 1,
            "early_stopping_patience": 4,
            "early_stopping_threshold": 10.0,  # no evaluation but the first improves so much: it ends at update 5
            "save_steps": 2,
        },
    ),
    "decay in backward": (
        "bert",
        {
            "optimizer_in_backward": True,
            "gradient_accumulation_steps": 1,
            "max_grad_norm": 0.0,
            "weight_decay": 0.1,
        },
    ),
    "fp16 on a virtual card": ("bert", {"precision": "fp16", "device": "virtual:tesla-p4", "eval_steps": 2}),
}
SLOW_KINDS: dict[str, tuple[str, dict[str, Value]]] = {
    "4 bits, paged": ("bert", {"weights": "nf4", "lora_rank": 4, "optimizer": "paged-adamw-8bit"}),
    "int8 on a virtual card": ("bert", {"weights": "int8", "lora_rank": 4, "device": "virtual:tesla-t4"}),
    "8 bits": ("bert", {"optimizer": "adamw-8bit"}),
    "8 bits in backward": (
        "bert",
        {
            "optimizer": "adamw-8bit",
            "optimizer_in_backward": True,
            "gradient_accumulation_steps": 1,
            "max_grad_norm": 0.0,
        },
    ),
    "adafactor": ("bert", {"optimizer": "adafactor"}),
    "sixteen bits": ("bert", {"weights": "bf16", "optimizer": "adafactor"}),
    "sgd with workers": ("bert", {"optimizer": "sgd", "dataloader_num_workers": 2, "optimizer_implementation": "loop"}),
    "checkpointing on T5": (
        "t5",
        {"workload": "dummy", "task": "seq2seq-lm", "data": None, "gradient_checkpointing": "on"},
    ),
    "hidden words with a worker": (
        "bert",
        {**TEXT, "task": "masked-lm", "padding": "longest", "dataloader_num_workers": 1},
    ),
    "experts": ("moe", {**TEXT, "padding": "longest", "optimizer_implementation": "foreach"}),
}


def assert_equal(one: Whole, other: Whole) -> None:
    assert one.record.outcome is other.record.outcome is Outcome.COMPLETED, (one.record.message, other.record.message)
    assert one.losses == other.losses
    assert one.scores == other.scores
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, other.weights[name]), name


def cut_and_resumed(config: RunConfig, stop_after: int) -> tuple[Whole, Whole]:
    whole = do(config)
    config = config.with_values(output_dir=f"{config.output_dir}-cut")
    part = do(config, stop_after=stop_after)
    assert part.record.outcome is Outcome.STOPPED
    return whole, do(config, 2, goes_on=newest(Path(config.output_dir or "")))


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_the_same_weights(tmp_path: Path, kind: str) -> None:
    family, knobs = KINDS[kind]
    whole, resumed = cut_and_resumed(small(tmp_path, family, **knobs), 5)
    assert_equal(whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_it_ends_with_the_same_weights_whatever_trains(tmp_path: Path, kind: str) -> None:
    family, knobs = SLOW_KINDS[kind]
    whole, resumed = cut_and_resumed(small(tmp_path, family, **knobs), 5)
    assert_equal(whole, resumed)


def test_its_figures_are_those_of_the_whole(tmp_path: Path) -> None:
    whole, resumed = cut_and_resumed(small(tmp_path), 8)
    record, at = resumed.record, resumed.record.resumed_at
    assert (record.resumed_from, at, record.updates) == (1, 6, 12)
    assert record.train_loss == whole.record.train_loss
    assert record.eval_accuracy == whole.record.eval_accuracy
    times = [update.t for update in resumed.updates]
    assert times == sorted(times)
    assert record.train_runtime_s is not None
    assert record.train_runtime_s > times[6] > times[5]
    assert [update.update for update in resumed.updates if update.warmup and update.update > 6] != []
    started = next(event for event in resumed.events if isinstance(event, TrainingStarted))
    assert 0 < started.resumed_s <= times[6]


def test_a_resumed_run_can_be_cut_and_resumed_again(tmp_path: Path) -> None:
    config = small(tmp_path)
    whole = do(config.with_values(output_dir=str(tmp_path / "whole")))
    folder = tmp_path / "out"
    do(config, 1, stop_after=4)
    do(config, 2, goes_on=newest(folder), stop_after=8)
    assert (newest(folder).run_id, newest(folder).update) == (2, 6)
    assert_equal(whole, do(config, 3, goes_on=newest(folder)))


def test_only_so_many_checkpoints_stay(tmp_path: Path) -> None:
    do(small(tmp_path, save_total_limit=2))
    assert [each.update for each in checkpoints_in(tmp_path / "out")] == [9, 12]
    do(small(tmp_path, save_total_limit=0, output_dir=str(tmp_path / "all")))
    assert [each.update for each in checkpoints_in(tmp_path / "all")] == [3, 6, 9, 12]


def test_other_data_is_refused(tmp_path: Path) -> None:
    config = small(tmp_path)
    do(config, stop_after=4)
    data = tmp_path / "reviews.csv"
    data.write_text(data.read_text().replace("the ", "a ", 5))
    with pytest.raises(ConfigError, match=r"reviews\.csv is not as it was when run 1 began"):
        do(config, 2, goes_on=newest(tmp_path / "out"))


def test_another_base_under_an_adapter_is_refused(tmp_path: Path) -> None:
    config = small(tmp_path, lora_rank=4)
    do(config, stop_after=4)
    found = newest(tmp_path / "out")
    meta = found.folder / "checkpoint.json"
    meta.write_text(meta.read_text().replace(found.frozen, "0" * 64))
    with pytest.raises(ConfigError, match="are not those that run 1 began with"):
        do(config, 2, goes_on=newest(tmp_path / "out"))


@pytest.mark.parametrize("file", ["state.pt", "told.json"])
def test_a_damaged_checkpoint_is_refused_in_a_sentence(tmp_path: Path, file: str) -> None:
    config = small(tmp_path, save_steps=1)
    do(config, stop_after=4)
    *older, last = checkpoints_in(tmp_path / "out")
    damaged = last.folder / file
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(ConfigError, match="is damaged: go on with the one before, by --resume") as refused:
        do(config, 2, goes_on=last)
    assert f"--resume {older[-1].folder}." in refused.value.message
    for other in older:
        shutil.rmtree(other.folder)
    with pytest.raises(ConfigError, match="is damaged: start a new run, as there is no older one"):
        do(config, 2, goes_on=last)


def test_nothing_in_a_checkpoint_is_unpickled(tmp_path: Path) -> None:
    config = small(tmp_path)
    do(config, stop_after=4)
    torch.save({"model": Path("/")}, newest(tmp_path / "out").folder / "state.pt")  # any object with a class
    with pytest.raises(ConfigError, match="is damaged"):
        do(config, 2, goes_on=newest(tmp_path / "out"))
