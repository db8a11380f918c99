"""The forecast of several GPUs against what two real ranks on virtual ones hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.records import Outcome
from engine.devices import link_speeds
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.techniques.parallel import link_speed
from tests.engine.forecast.five_models import TOLERANCE, small
from tests.engine.techniques.parallel.cases import train
from tests.engine.techniques.parallel.ranks import Ranks, ranks

CARD = "a100-40gb"
_QUICK: list[Any] = [("bert", {"parallel": "zero1"}), ("gpt2", {"gradient_accumulation_steps": 2, "bucket_mib": 1})]
_SLOW: list[Any] = [
    ("bert", {}),
    ("llama", {}),
    ("llama", {"parallel": "zero1", "optimizer_implementation": "foreach"}),
    ("llama", {"lora_rank": 4}),
    ("gpt2", {"weights": "bf16", "parallel": "zero1", "max_grad_norm": 0.0}),
    ("bert", {"precision": "fp16", "parallel": "zero1", "gradient_accumulation_steps": 2}),
]


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    with ranks(2) as both:
        yield both


@pytest.mark.parametrize(("kind", "knobs"), [*_QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in _SLOW)])
def test_each_rank_holds_what_was_told(two: Ranks, tmp_path: Path, kind: str, knobs: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    config = small(tmp_path, kind, device="auto", gpus=2, samples=24, **knobs)
    told = Forecaster().forecast(config, find(CARD))
    first, second = two.each(train, config, None, CARD)
    assert first.outcome is second.outcome is Outcome.COMPLETED, (first.message, second.message)
    measured = [share.memory for share in first.updates[-1].ranks]
    for memory, used in zip(measured, told.peak_used_by_rank, strict=True):
        assert memory.peak_used == pytest.approx(used, rel=TOLERANCE)
    assert max(memory.peak_reserved or 0 for memory in measured) == pytest.approx(told.peak_reserved, rel=TOLERANCE)
    assert told.peak_allocated in [pytest.approx(memory.peak_allocated, rel=TOLERANCE / 5) for memory in measured]


def test_how_fast_ranks_are_joined_is_measured_once(
    two: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    cards = [link_speeds.number_of(uuid) for uuid in ("GPU-1", "GPU-2")]
    assert link_speeds.known(cards) is None
    two.each(_know, str(tmp_path))
    rate = link_speeds.known(reversed(cards))
    assert rate is not None
    assert 1e6 < rate < 1e12
    two.each(_know, str(tmp_path))
    assert link_speeds.known(cards) == rate
    assert link_speeds.known(cards[:1]) is None
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != "links.json"]


def _know(home: str) -> None:
    import os

    import torch.distributed as dist

    os.environ["TRAINTOP_HOME"] = home
    link_speed.know(torch.device("cpu"), f"GPU-{dist.get_rank() + 1}")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_file_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    link_speeds.keep([1, 2], 5e9)
    (tmp_path / "cache" / "links.json").write_text(text)
    assert link_speeds.known([1, 2]) is None
    link_speeds.keep([1, 2], 7e9)
    assert link_speeds.known([2, 1]) == 7e9
