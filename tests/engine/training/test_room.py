"""A model that the machine's memory does not hold is refused before it is read, as often as it will be there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.process.machine import Machine, Ram
from engine.training import model_trial
from engine.training.model_trial import check_room

GIB = 2**30


class _Model(torch.nn.Module):
    """A thousand million parameters without memory: 3.7 GiB in fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(1000, 1_000_000, device="meta"))


@pytest.fixture(autouse=True)
def ten_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "memory", lambda self: Ram(total=10 * GIB, used=0, available=10 * GIB))
    monkeypatch.setattr(model_trial.psutil, "swap_memory", lambda: SimpleNamespace(total=0))


def _check(device: str, gpus: int, *, is_read: bool = True, weights: str = "fp32") -> None:
    config = RunConfig(device=device, gpus=gpus, parallel="fsdp", weights=weights)
    model: object = _Model()
    check_room(model, config, is_read=is_read, read_in=torch.float32)  # type: ignore[arg-type]


def test_each_rank_of_virtual_gpus_has_weights_of_its_own() -> None:
    _check("virtual:tesla-p4", 2)
    with pytest.raises(ConfigError) as refused:
        _check("virtual:tesla-p4", 3)
    assert refused.value.message == (
        "--model 'bert-tiny' has 1,000,000,000 parameters, 4 GiB in fp32 for each of 3 ranks, and this machine has "
        "10.0 GiB of memory: use fewer GPUs, or a smaller model."
    )
    _check("virtual:tesla-p4", 3, weights="bf16")


def test_ranks_on_cards_share_what_they_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _check("cuda", 8)
    with pytest.raises(ConfigError, match="for each of 8 ranks"):
        _check("cuda", 8, is_read=False)
    with pytest.raises(ConfigError, match="for each of 8 ranks"):
        _check("cuda", 8, weights="bf16")


def test_ranks_on_other_machines_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    for name, value in {**numbers, "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    _check("virtual:tesla-p4", 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="for each of 4 ranks"):
        _check("virtual:tesla-p4", 8)
