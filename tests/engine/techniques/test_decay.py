"""Weight decay's groups are the Trainer's, for every architecture at hand."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel, Trainer

from engine.contract.config import RunConfig
from engine.techniques.decay import decaying_names, groups_of

SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
ARCHITECTURES = [
    "bert",
    "gpt2",
    "llama",
    "t5",
    "modernbert",
    "qwen3",
    "bart",
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_groups_are_the_trainers(architecture: str) -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(architecture, **SMALL))
    theirs = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    ours = set(decaying_names(model))
    assert ours == {name for name, _ in model.named_parameters()} & theirs
    assert ours

    config = RunConfig(weight_decay=0.1)
    decaying, spared = groups_of(config, model)
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert sum(len(group["params"]) for group in (decaying, spared)) == len(list(model.parameters()))
    named = dict(model.named_parameters())
    assert {id(parameter) for parameter in decaying["params"]} == {id(named[name]) for name in ours}


def test_without_decay_there_is_one_group_and_nothing_that_is_frozen() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    model[0].weight.requires_grad = False
    (group,) = groups_of(RunConfig(), model)
    assert len(group["params"]) == 3
    assert [len(group["params"]) for group in groups_of(RunConfig(weight_decay=0.1), model)] == [3]  # none decays
