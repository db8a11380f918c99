"""The software of other years, and whose loop trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.forecast_types import Forecast
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.loops import LOOPS
from engine.gpus.catalogue import find
from engine.tracing.stack import STACKS
from tests.engine.model_folders import FAMILIES, model_folder

OLD = [name for name, stack in STACKS.items() if not stack.is_of_today]
SMALL = RunConfig(model="gpt2-tiny", task="causal-lm", batch_size=4, seq_len=128, samples=32)
LOGITS = 4 * 128 * 50_257 * 4


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    torch.set_num_threads(1)
    return Forecaster()


def _forecast(forecaster: Forecaster, config: RunConfig, stack: str = "current", loop: str = "trainer") -> Forecast:
    return forecaster.forecast(config, find("a100-40gb"), Assumptions(stack=stack, loop=loop))


@pytest.mark.parametrize("stack", OLD)
def test_a_stack_leaves_what_was_given(stack: str) -> None:
    config = RunConfig(attention="sdpa", optimizer_implementation="fused")
    given = frozenset(("attention", "optimizer_implementation"))
    assert STACKS[stack].adapt(config, given) == config
    assert STACKS[stack].adapt(config) == config.with_values(**STACKS[stack].defaults)
    assert STACKS[stack].defaults


def test_a_given_flag_makes_a_difference(forecaster: Forecaster) -> None:
    gpu, given = find("a100-40gb"), frozenset(("attention",))
    eager = forecaster.forecast(SMALL, gpu, Assumptions(stack="lecture-2023"))
    sdpa = forecaster.forecast(SMALL.with_values(attention="sdpa"), gpu, Assumptions(stack="lecture-2023", given=given))
    assert sdpa.peak_allocated < eager.peak_allocated


@pytest.mark.parametrize(
    "stack", [pytest.param(name, marks=[] if name == "2022" else pytest.mark.slow) for name in OLD]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_past(tmp_path: Path, forecaster: Forecaster, family: str, stack: str) -> None:
    task = "seq2seq-lm" if family == "t5" else "causal-lm"
    config = SMALL.with_values(model=model_folder(tmp_path, family), task=task, seq_len=64)
    made = _forecast(forecaster, config, stack)
    assert made.peak_allocated > 0
    checkpointed = _forecast(forecaster, config.with_values(gradient_checkpointing="on"), stack)
    assert checkpointed.peak_allocated < made.peak_allocated


def test_softmaxes_kept_their_inputs_once(forecaster: Forecaster, tmp_path: Path) -> None:
    config = SMALL.with_values(model=model_folder(tmp_path, "bert"), task="classification")
    one, two = (_forecast(forecaster, config, stack) for stack in ("2020-2021", "2022"))
    layers, heads = FAMILIES["bert"]["num_hidden_layers"], FAMILIES["bert"]["num_attention_heads"]
    scores = 4 * heads * 128 * 128 * 4
    assert one.peak_allocated - two.peak_allocated == pytest.approx(layers * scores, rel=0.02)


def test_gradients_stayed_before_pytorch_2(forecaster: Forecaster) -> None:
    made = _forecast(forecaster, SMALL, "2022")
    assert made.breakdown["gradients"] == pytest.approx(made.n_parameters * 4, rel=0.02)
    assert _forecast(forecaster, SMALL, "2023-2024").breakdown["gradients"] == 0


def test_a_script_holds_the_logits_of_the_step_before(forecaster: Forecaster) -> None:
    trainer, script = (_forecast(forecaster, SMALL, loop=loop) for loop in ("trainer", "script"))
    assert script.peak_allocated - trainer.peak_allocated == pytest.approx(LOGITS, rel=0.01)
    assert LOOPS["script"].description in script.notes


def test_a_tutorial_holds_the_gradients_through_the_forward(forecaster: Forecaster) -> None:
    script, tutorial = (_forecast(forecaster, SMALL, loop=loop) for loop in ("script", "tutorial"))
    assert _gradients_in_forward(script) == 0
    assert _gradients_in_forward(tutorial) == pytest.approx(tutorial.n_parameters * 4, rel=0.02)


def _gradients_in_forward(made: Forecast) -> int:
    return max(point.by_category["gradients"] for point in made.timeline if point.phase == "forward")
