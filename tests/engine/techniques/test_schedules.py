"""Learning rates are those of transformers' schedules, update for update."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainingArguments, get_scheduler

from engine.contract.config import RunConfig
from engine.techniques.schedules import build_schedule, warmup_of


@pytest.mark.parametrize("updates", [1, 7, 40])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_rates_are_those_of_transformers(name: str, warmup: float, updates: int) -> None:
    config = RunConfig(lr_scheduler=name, warmup_steps=warmup, learning_rate=0.5)
    theirs = "constant_with_warmup" if name == "constant" else name
    steps = TrainingArguments(output_dir="unused", warmup_steps=warmup, use_cpu=True).get_warmup_steps(updates)
    assert warmup_of(config, updates) == steps
    rates = []
    for ours in (True, False):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        schedule = build_schedule(config, optimizer, updates) if ours else None
        schedule = schedule or get_scheduler(theirs, optimizer, num_warmup_steps=steps, num_training_steps=updates)
        rates.append([])
        for _ in range(updates):
            rates[-1].append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    assert rates[0] == rates[1]
