"""Following what is small alone, once what is large repeats itself, changes no figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.allocator.allocator import CachingAllocator
from engine.contract.config import RunConfig
from engine.forecast import replay
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.gpus.units import MIB


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(model="bert-mini", seq_len=128, batch_size=13),
        RunConfig(model="bert-small", seq_len=128, batch_size=24, lora_rank=8, optimizer_implementation="foreach"),
        RunConfig(model="gpt2-tiny", task="causal-lm", seq_len=128, batch_size=7, gradient_accumulation_steps=3),
        RunConfig(model="smollm2-135m", task="causal-lm", seq_len=256, batch_size=6, lora_rank=4, epochs=2),
        RunConfig(model="bert-mini", seq_len=96, batch_size=9, workload="reviews", padding="longest", samples=64),
    ],
    ids=["plain", "lora-foreach", "accumulation", "llama", "lengths"],
)
def test_the_figures_are_the_same(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find("h200")
    forecaster = Forecaster()
    counted: list[bool] = []
    play = replay.Player._play_segment

    def counting(self: replay.Player, *arguments: object) -> None:
        counted.append(self._small_only)
        play(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(replay.Player, "_play_segment", counting)
    by_pool = forecaster.forecast(config, card)
    assert any(counted) or config.gradient_accumulation_steps > 1  # where what is small grows, all is followed
    monkeypatch.setattr(CachingAllocator, "has_separate_pools", property(lambda self: False))
    counted.clear()
    whole = forecaster.forecast(config, card)
    assert not any(counted)
    assert replace(by_pool, forecast_s=0.0) == replace(whole, forecast_s=0.0)


def test_pools_are_apart_only_without_a_limit() -> None:
    assert CachingAllocator().has_separate_pools
    assert not CachingAllocator(100 * MIB).has_separate_pools
