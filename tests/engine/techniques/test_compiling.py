"""torch.compile gives the plain run's figures, compiles once, is refused where it cannot work, and leaves nothing."""

from __future__ import annotations

import gc
import shutil
import sysconfig
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import RunFinished
from engine.contract.records import DeviceInfo, Outcome
from engine.devices.cpu import CpuDevice
from engine.techniques import compiling
from engine.training.trainer import train
from tests.engine.jobs import Recorded, make_job, tiny_model

CONFIG = RunConfig(
    device="cpu", batch_size=4, samples=12, seq_len=16, epochs=2, learning_rate=1e-3, dropout=False, seed=3
)
COMPILED = CONFIG.with_values(torch_compile=True)


@pytest.fixture
def without_kernels() -> Iterator[None]:
    """Graphs are captured and differentiated as compiled ones are, and then run operator by operator: no compiler."""
    from torch._dynamo.utils import counters

    torch.set_num_threads(1)
    torch.compiler.reset()
    counters.clear()
    with torch.compiler.set_stance("default", force_backend="aot_eager"):
        yield
    torch.compiler.reset()


def _graphs() -> int:
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def _trained(config: RunConfig) -> Recorded:
    recorded = make_job(config, tiny_model(dropout=0.0, layers=1))
    torch.manual_seed(5)
    assert train(recorded.job)
    return recorded


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"gradient_checkpointing": "on"}, marks=pytest.mark.slow),
        pytest.param({"precision": "bf16"}, marks=pytest.mark.slow),
        {"lora_rank": 4},
    ],
    ids=str,
)
def test_losses_and_weights_are_the_plain_runs(changes: dict[str, Any]) -> None:
    plain, compiled = _trained(CONFIG.with_values(**changes)), _trained(COMPILED.with_values(**changes))
    assert _graphs() >= 1
    tolerance = 1e-4 if changes.get("precision") != "bf16" else 2e-2
    torch.testing.assert_close(compiled.losses, plain.losses, rtol=0, atol=tolerance)
    if changes.get("precision") != "bf16":
        for mine, theirs in zip(compiled.job.model.parameters(), plain.job.model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("samples", [pytest.param(12, marks=pytest.mark.slow), 14])
def test_a_smaller_last_batch_is_not_compiled_for_again(samples: int) -> None:
    _trained(COMPILED.with_values(samples=samples))
    assert _graphs() == 1


@pytest.mark.usefixtures("without_kernels")
def test_eight_bit_steps_beside_a_compiled_model_compile_it_once() -> None:
    config = COMPILED.with_values(optimizer="adamw-8bit", samples=8, epochs=1)
    recorded = make_job(config.with_values(torch_compile=False), tiny_model(dropout=0.0, layers=1))  # an eager step …
    compiling.apply(recorded.job.model, config, 8)  # … of a compiled model
    assert train(replace(recorded.job, config=config))
    assert _graphs() == 1


@pytest.mark.usefixtures("without_kernels")
def test_nothing_of_the_run_is_kept() -> None:
    with compiling.forgotten_after(COMPILED):
        recorded = _trained(COMPILED)
    dead = weakref.ref(next(recorded.job.model.parameters()))
    del recorded
    gc.collect()
    assert dead() is None


@pytest.mark.slow
def test_real_kernels_in_the_engines_thread(tmp_path: Path) -> None:
    from engine.history.history import History
    from engine.session.session import Session

    history = History(tmp_path / "history.sqlite3")
    session = Session(history)
    session.open()
    records = []
    try:
        for config in (CONFIG, COMPILED, CONFIG):
            session.start(config)
            finished: list[RunFinished] = []
            while not finished:
                finished = [event for event in session.wait(600) if isinstance(event, RunFinished)]
            records.append(finished[0].record)
    finally:
        session.close()
        history.close()
    before, compiled, after = records
    assert compiled.outcome is Outcome.COMPLETED
    assert compiled.train_loss == pytest.approx(before.train_loss, abs=1e-4)
    assert after.train_loss == before.train_loss
    assert compiled.updates == before.updates


def _refusal(device: CpuDevice, config: RunConfig = COMPILED) -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        compiling.refuse(config, device)
    assert "--torch-compile off" in refusal.value.message
    return refusal.value


def _gpu(kind: str, capability: tuple[int, int]) -> CpuDevice:
    """A device that says of itself what a GPU says."""
    device = CpuDevice()
    device.info = DeviceInfo(name="Tesla P4", kind=kind)
    device.capability = capability
    return device


def test_refused_without_a_cpp_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda command: None)
    error = _refusal(CpuDevice())
    assert error.knob == "torch_compile"
    assert "install g++" in error.message


def test_refused_without_pythons_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: "/usr/bin/" + command)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "install python3-dev" in _refusal(CpuDevice()).message


def test_refused_on_gpus_that_are_not_there_or_too_old() -> None:
    assert "use --device cpu or cuda" in _refusal(_gpu("virtual", (8, 0))).message
    assert "Tesla P4 has 6.1" in _refusal(_gpu("cuda", (6, 1))).message


def test_refused_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert "pip install triton" in _refusal(_gpu("cuda", (8, 0))).message


def test_refused_with_the_optimizer_in_backward() -> None:
    config = COMPILED.with_values(optimizer_in_backward=True, max_grad_norm=0.0)
    error = _refusal(CpuDevice(), config)
    assert error.knob == "optimizer_in_backward"
    assert "--optimizer-in-backward off" in error.message


def test_not_asked_for_is_never_refused() -> None:
    compiling.refuse(CONFIG, _gpu("virtual", (6, 1)))
