"""What is forecast for each of several ranks is what two of them measure on virtual GPUs, to the segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.allocator.options import SMALL_SEGMENT
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import UpdateDone
from engine.contract.records import Memory, Outcome, RunRecord
from engine.devices.virtual import VirtualDevice
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.techniques.parallel.several import several
from engine.training.hub import Hub
from engine.training.run import Run
from tests.engine.forecast.five_models import TOLERANCE, small
from tests.engine.techniques.parallel.cases import train
from tests.engine.techniques.parallel.ranks import Ranks, ranks

CARD = "a100-40gb"
PARALLELS = ("ddp", "zero1", "fsdp")
_ACCUMULATED, _UNCLIPPED = {"gradient_accumulation_steps": 4}, {"max_grad_norm": 0.0}
QUICK: list[tuple[str, str, dict[str, Any]]] = [
    ("bert", "ddp", _ACCUMULATED),
    ("gpt2", "zero1", {}),
    ("llama", "fsdp", _UNCLIPPED),
]
ALL = [
    (kind, parallel, changes)
    for kind in ("bert", "gpt2", "llama")
    for parallel in PARALLELS
    for changes in (
        {},
        _ACCUMULATED,
        _UNCLIPPED,
        {**_ACCUMULATED, **_UNCLIPPED, "optimizer_implementation": "foreach"},
    )
    if (kind, parallel, changes) not in QUICK
]


@pytest.fixture(scope="module")
def both() -> Iterator[Ranks]:
    """Two ranks."""
    with ranks(2) as started:
        yield started


def _measured(config: RunConfig) -> list[Memory]:
    """Of every rank, after its last update."""
    told = train(config, card=CARD)
    assert told.outcome is Outcome.COMPLETED, told.message
    return [rank.memory for rank in told.updates[-1].ranks]


def _is_traced(config: RunConfig) -> list[bool]:
    """Whether each update's operators were accounted for."""
    device = VirtualDevice(CARD, config)
    traced: list[bool] = []
    hub = Hub()
    hub.probe()
    run = Run(
        record=RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING),
        device=device,
        hub=hub,
        emit=lambda event: traced.append(device.is_tracing) if isinstance(event, UpdateDone) else None,
        should_stop=lambda: False,
        together=several(config, device.torch_device),
    )
    assert run.execute().outcome is Outcome.COMPLETED
    return traced


def _config(folder: Path, kind: str, parallel: str, n_updates: int = 4, **changes: Any) -> RunConfig:
    config = small(folder, kind, gpus=2, parallel=parallel, device=f"virtual:{CARD}×2", **changes)
    return config.with_values(samples=n_updates * config.effective_batch_size)


def assert_as_told(both: Ranks, config: RunConfig) -> None:
    hub = Hub()
    hub.probe()
    told = Forecaster(hub).forecast(config, find(CARD))
    measured, again = both.each(_measured, config)
    assert measured == again  # each tells the other
    assert [memory.peak_used for memory in measured] == pytest.approx(told.peak_used_by_rank, rel=TOLERANCE)
    # one segment of small blocks, which foreach's many little tensors may need on one side only, as with one GPU
    spare = SMALL_SEGMENT if config.optimizer_implementation == "foreach" else 0
    reserved = pytest.approx(told.peak_reserved, rel=TOLERANCE, abs=spare)
    assert max(memory.peak_reserved or 0 for memory in measured) == reserved
    most = max(memory.peak_used or 0 for memory in measured)
    fullest = [memory.peak_allocated for memory in measured if memory.peak_used == most]
    assert told.peak_allocated in [pytest.approx(allocated, rel=TOLERANCE) for allocated in fullest]


@pytest.mark.parametrize(("kind", "parallel", "changes"), QUICK)
def test_ranks_measure_what_is_forecast(
    both: Ranks, tmp_path: Path, kind: str, parallel: str, changes: dict[str, Any]
) -> None:
    assert_as_told(both, _config(tmp_path, kind, parallel, **changes))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "parallel", "changes"), ALL)
def test_all_ranks_measure_what_is_forecast(
    both: Ranks, tmp_path: Path, kind: str, parallel: str, changes: dict[str, Any]
) -> None:
    assert_as_told(both, _config(tmp_path, kind, parallel, **changes))


@pytest.mark.parametrize("parallel", PARALLELS)
def test_ranks_are_traced_until_their_updates_repeat(both: Ranks, tmp_path: Path, parallel: str) -> None:
    config = _config(tmp_path, "bert", parallel, n_updates=12, seq_len=16, batch_size=1)
    for traced in both.each(_is_traced, config):
        assert traced[1]  # DDP has made its buckets anew in it
        assert not traced[-1]


def test_weights_of_several_types_are_refused_as_zero1_refuses_them(tmp_path: Path) -> None:
    """LoRA's are in fp32, and the head that is trained beside them as the weights are."""
    config = _config(tmp_path, "bert", "zero1", lora_rank=4, weights="bf16")
    with pytest.raises(ConfigError, match=r"divides weights of one type only, and of .* this run trains weights in"):
        Forecaster(Hub(False)).forecast(config, find(CARD))
