"""Two ranks that save and go on: to the last bit as if nothing had been, whoever was killed, whatever is divided."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.contract.config import RunConfig, Value
from engine.contract.records import Outcome
from engine.training.saving.places import checkpoints_in
from tests.engine.techniques.parallel.ranks import Failed, Ranks, ranks
from tests.engine.training.saving import rank_runs
from tests.engine.training.saving.rank_runs import Ended
from tests.engine.training.saving.whole_runs import small

PARALLEL = ("ddp", "zero1", "fsdp")
GPT2: dict[str, Value] = {"workload": "text", "task": "causal-lm", "padding": "packed", "seq_len": 32}
MOMENTS: dict[str, tuple[int, str, int]] = {
    "one rank, between two checkpoints": (1, "update", 5),
    "the first, between two": (0, "update", 4),
    "one, before it writes": (1, "write_state", 2),
    "one, in the midst of what all write": (1, "parts", 2),
    "the first, when all have written": (0, "meta", 2),
    "the first, before the checkpoint gets its name": (0, "rename", 2),
    "all at once": (-1, "update", 5),
}
"""Who is killed, before what, and the how manieth time."""


def config_of(root: Path, parallel: str, family: str = "bert", **more: Value) -> RunConfig:
    values: dict[str, Value] = {"output_dir": str(root / "out"), **more}
    return small(root, family, device="virtual:tesla-p4", gpus=2, parallel=parallel, **values)


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    with ranks(2) as two:
        yield two


def check_same(ended: list[Ended], whole: list[Ended]) -> None:
    for one, other in zip(ended, whole, strict=True):
        assert one.outcome is Outcome.COMPLETED, one.message
        assert (one.losses, one.scores, one.weights) == (other.losses, other.scores, other.weights)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_run_goes_on_from_its_checkpoint(two: Ranks, tmp_path: Path, parallel: str) -> None:
    config = config_of(tmp_path, parallel)
    whole = two.each(rank_runs.go, config)
    assert all(problem is None for problem in whole[0].problems.values())
    shutil.rmtree(tmp_path / "out" / "checkpoint-6")
    resumed = two.each(rank_runs.go, config, 2)
    assert [each.resumed_at for each in resumed] == [3, 3]
    check_same(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("bert", {"lora_rank": 4}),
        ("gpt2", {**GPT2, "samples": 22}),
        ("bert", {"optimizer": "sgd", "momentum": 0.9, "gradient_accumulation_steps": 1, "save_steps": 5}),
        ("bert", {"weights": "bf16", "dataloader_num_workers": 1}),
    ],
    ids=["lora", "gpt2", "sgd", "bf16"],
)
def test_whatever_is_trained_goes_on(
    two: Ranks, tmp_path: Path, parallel: str, family: str, more: dict[str, Value]
) -> None:
    config = config_of(tmp_path, parallel, family, **more)
    whole = two.each(rank_runs.go, config)
    first, *later = checkpoints_in(tmp_path / "out")
    assert later
    for each in later:
        shutil.rmtree(each.folder)
    resumed = two.each(rank_runs.go, config, 2)
    assert [each.resumed_at for each in resumed] == [first.update] * 2
    check_same(resumed, whole)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_models_are_as_hugging_face_reads_them(two: Ranks, tmp_path: Path, parallel: str) -> None:
    from transformers import AutoModelForCausalLM

    config = config_of(tmp_path, parallel, "gpt2", **GPT2, samples=22, save_steps=0)
    ended = two.each(rank_runs.go, config)
    assert ended[0].outcome is Outcome.COMPLETED, ended[0].message
    folder = tmp_path / "out" / "last"
    model = AutoModelForCausalLM.from_pretrained(folder if folder.exists() else tmp_path / "out")
    assert model.config.architectures == ["GPT2LMHeadModel"]
    loaded = dict(model.named_parameters())
    assert loaded.keys() == ended[0].whole.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in ended[0].whole.items())


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_adapters_are_as_peft_reads_them(two: Ranks, tmp_path: Path, parallel: str) -> None:
    from peft import AutoPeftModelForSequenceClassification

    config = config_of(tmp_path, parallel, lora_rank=4, save_steps=0)
    ended = two.each(rank_runs.go, config)
    folder = tmp_path / "out" / "last"
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder if folder.exists() else tmp_path / "out")
    loaded = dict(model.named_parameters())
    assert loaded.keys() == ended[0].whole.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in ended[0].whole.items())


@pytest.mark.parametrize(("parallel", "full"), [("ddp", 0), ("fsdp", 1)])
def test_a_disk_that_is_full_for_one_rank_ends_no_run(two: Ranks, tmp_path: Path, parallel: str, full: int) -> None:
    ended = two.each(rank_runs.go, config_of(tmp_path, parallel), full=full)
    assert {each.outcome for each in ended} == {Outcome.COMPLETED}
    problem = ended[0].problems[("checkpoint", 6)]
    assert problem is not None
    assert "File too large" in problem
    assert ("rank 1" in problem) == (full == 1)
    assert "the run goes on, and the checkpoint at update 3 is still there" in problem
    assert [each.update for each in checkpoints_in(tmp_path / "out")] == [3]
    assert not list((tmp_path / "out").glob(".*"))


def test_no_pickle_of_pytorchs_own_format_is_written(two: Ranks, tmp_path: Path) -> None:
    two.each(rank_runs.go, config_of(tmp_path, "fsdp", epochs=1))
    files = {file.name for file in (tmp_path / "out" / "checkpoint-3").rglob("*") if file.is_file()}
    assert files == {
        "checkpoint.json",
        "told.json",
        "state.pt",  # read with weights_only
        "shard-00001-model-00001-of-00001.safetensors",
        "shard-00002-model-00001-of-00001.safetensors",
    }


def test_a_part_that_is_damaged_is_told_with_the_one_to_go_on_from(two: Ranks, tmp_path: Path) -> None:
    config = config_of(tmp_path, "fsdp")
    two.each(rank_runs.go, config)
    for part in (tmp_path / "out" / "checkpoint-6" / "parts").iterdir():
        part.write_bytes(part.read_bytes()[:-1000])
    with pytest.raises(Failed, match=r"checkpoint-6 is damaged: go on with the one before, by --resume .*checkpoint-3"):
        two.each(rank_runs.go, config, 2)


def killed_and_resumed(root: Path, parallel: str, moment: str) -> None:
    config = config_of(root, parallel, output_dir=str(root / "whole"))
    with ranks(2) as two:
        whole = two.each(rank_runs.go, config)
    config = config.with_values(output_dir=str(root / "killed"))
    with ranks(2) as two, pytest.raises((EOFError, ConnectionError)):
        two.each(rank_runs.go, config, dies=MOMENTS[moment])
    with ranks(2) as two:
        resumed = two.each(rank_runs.go, config, 2)
    assert [each.resumed_at for each in resumed] == [3, 3]
    check_same(resumed, whole)
    assert not list((root / "killed").glob(".*"))


def test_a_rank_that_is_killed_while_all_write_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, "fsdp", "one, in the midst of what all write")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("moment", [each for each in MOMENTS if each != "one, in the midst of what all write"])
def test_killed_at_any_moment_it_goes_on(tmp_path: Path, parallel: str, moment: str) -> None:
    killed_and_resumed(tmp_path, parallel, moment)
