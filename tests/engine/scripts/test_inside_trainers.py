"""Scripts on top of trainers are seen as the trainers' own logs say, and compute what they compute alone."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from typing import Any

import pytest

from tests.engine.scripts import trainer_scripts
from tests.engine.scripts.watched import Watched, both

Ran = dict[str, tuple[Watched, Watched]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """transformers' Trainer and accelerate's loop."""
    scripts = {"transformers": trainer_scripts.TRANSFORMERS, "accelerate": trainer_scripts.ACCELERATE}
    preload = "torch, torch._dynamo, accelerate, transformers.trainer, transformers.models.gpt2.modeling_gpt2"
    return both(scripts, tmp_path_factory.mktemp("ran"), preload=preload)


def _check_equal(alone: Watched, seen: Watched) -> None:
    assert alone.code == 0, alone.err
    assert (seen.out, seen.code) == (alone.out, 0), seen.err
    assert not seen.of("off")


def _logs(alone: Watched, name: str) -> list[Any]:
    entries = [ast.literal_eval(line) for line in alone.out.splitlines() if line.startswith("{")]
    return [entry[name] for entry in entries if name in entry]


def test_transformers_trainer_is_seen(ran: Ran) -> None:
    alone, seen = ran["transformers"]
    _check_equal(alone, seen)
    updates = seen.updates()
    assert [each["loss"] for each in updates] == pytest.approx(list(map(float, _logs(alone, "loss"))), abs=1e-3)
    assert [each["grad_norm"] for each in updates] == pytest.approx(
        list(map(float, _logs(alone, "grad_norm"))), rel=1e-3
    )
    assert {(each["micro_steps"], each["samples"], each["tokens"]) for each in updates} == {(2, 8, 128)}
    [plan] = seen.of("plan")
    assert (plan["by"], plan["updates"], plan["batch_size"], plan["gradient_accumulation_steps"]) == (
        "transformers", 6, 4, 2,
    )  # fmt: skip
    figures = [each["figures"] for each in seen.of("log")]
    assert [each["eval_loss"] for each in figures if "eval_loss" in each] == list(map(float, _logs(alone, "eval_loss")))
    assert seen.of("model")[0]["model"] == "GPT2LMHeadModel"


def test_accelerates_loop_is_seen(ran: Ran) -> None:
    alone, seen = ran["accelerate"]
    _check_equal(alone, seen)
    losses = [float(line) for line in alone.out.splitlines() if not line.startswith("norm")]
    norms = [float(line.split()[1]) for line in alone.out.splitlines() if line.startswith("norm")]
    updates = seen.updates()
    assert [each["loss"] for each in updates] == pytest.approx(
        [sum(losses[n : n + 3]) / 3 for n in range(0, len(losses), 3)], rel=1e-5
    )
    assert [each["grad_norm"] for each in updates] == norms
    assert {(each["micro_steps"], each["samples"], each["tokens"]) for each in updates} == {(3, 6, 96)}


@pytest.mark.skipif(find_spec("lightning") is None, reason="Lightning is not installed")
def test_lightnings_trainer_is_seen(tmp_path_factory: pytest.TempPathFactory) -> None:
    ran = both({"lightning": trainer_scripts.LIGHTNING}, tmp_path_factory.mktemp("ran"), preload="torch, lightning")
    alone, seen = ran["lightning"]
    _check_equal(alone, seen)
    losses = [float(line) for line in alone.out.splitlines() if not line.startswith("end")]
    updates = seen.updates()
    assert [each["loss"] for each in updates] == pytest.approx(
        [sum(losses[n : n + 3]) / 3 for n in range(0, len(losses), 3)], rel=1e-5
    )
    assert {(each["micro_steps"], each["samples"]) for each in updates} == {(3, 12)}
    assert all(each["grad_norm"] is not None and each["shares"]["forward"] > 0 for each in updates)
    [plan] = seen.of("plan")
    assert (plan["by"], plan["updates"], plan["gradient_accumulation_steps"]) == ("lightning", 8, 3)
    assert seen.of("log")[-1]["figures"]["val_loss"] == float(alone.out.split("end")[1])


@pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed")
def test_trls_trainer_is_seen(tmp_path_factory: pytest.TempPathFactory) -> None:
    alone, seen = both({"trl": trainer_scripts.TRL}, tmp_path_factory.mktemp("ran"), preload="torch, trl")["trl"]
    _check_equal(alone, seen)
    assert [each["loss"] for each in seen.updates()] == pytest.approx(list(map(float, _logs(alone, "loss"))), abs=1e-3)
    assert {(each["micro_steps"], each["samples"]) for each in seen.updates()} == {(2, 4)}
    assert "mean_token_accuracy" in seen.of("log")[0]["figures"]
