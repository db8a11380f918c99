"""Where a run is within a long micro-step: every layer by its number, in forward and in backward, or no number."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from engine.contract.config import RunConfig
from engine.contract.records import Phase, Place
from engine.devices.cpu import CpuDevice
from engine.devices.open import open_device
from engine.techniques import checkpointing
from engine.techniques.stopping import Stopped, between_layers, countable
from engine.training.clock import Clock
from engine.training.trainer import train
from engine.training.whereabouts import Whereabouts
from tests.engine.jobs import make_job, tiny_model

CONFIG = RunConfig(device="cpu", samples=4, batch_size=2, seq_len=8)
FORWARD = [*(f"layer {number} of 3, forward" for number in (1, 2, 3)), "head, forward"]
BACKWARD = [*(f"layer {number} of 3, backward" for number in (3, 2, 1)), "embeddings, backward"]


def slow_clock() -> Callable[[], float]:
    """Another second has passed whenever it is asked."""
    return itertools.count().__next__


def walked(**knobs: Any) -> list[str]:
    """What a training of three layers says at every arrival."""
    config = CONFIG.with_values(**knobs)
    device = open_device(config)
    job = make_job(config, tiny_model(layers=3), device=device).job
    job.whereabouts = Whereabouts(job.clock, countable(job.model), slow_clock())
    arrive, said = job.whereabouts.arrive, []

    def arrived(layer: int) -> None:
        arrive(layer)
        place = job.whereabouts.place()
        assert place is not None
        said.append(place.words)

    job.whereabouts.arrive = arrived  # type: ignore[method-assign]
    with device.tracking():
        device.create_context()
        device.adopt(job.model)
        assert train(job)
    return [words for words, _ in groupby(said)]


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"gradient_checkpointing": "on"},
        {"gradient_checkpointing": "every-second"},
        {"lora_rank": 4},
        {"optimizer_in_backward": True, "max_grad_norm": 0.0},
        {"precision": "bf16"},
    ],
)
def test_it_names_every_layer_in_both_directions(knobs: dict[str, Any]) -> None:
    assert walked(**knobs) == (FORWARD + BACKWARD) * 2


def test_a_virtual_gpu_is_walked_alike() -> None:
    assert walked(device="virtual:tesla-p4") == (FORWARD + BACKWARD) * 2


def test_with_accumulation_it_also_names_the_micro_step() -> None:
    said = walked(gradient_accumulation_steps=2)
    assert said[0] == "micro-step 1 of 2, layer 1 of 3, forward"
    assert said[-1] == "micro-step 2 of 2, embeddings, backward"


def test_what_is_compiled_has_no_layers() -> None:
    job = make_job(CONFIG, tiny_model()).job
    job.config = CONFIG.with_values(torch_compile=True)
    job.__post_init__()
    job.whereabouts._now = lambda: 1e9
    job.clock.enter(Phase.BACKWARD)
    assert job.whereabouts.place() == Place(phase=Phase.BACKWARD)
    assert Place(phase=Phase.BACKWARD).words == "backward"


def test_short_steps_say_nothing() -> None:
    now = [0.0]
    whereabouts = Whereabouts(Clock(CpuDevice()), 3, lambda: now[0])
    whereabouts.begin()
    now[0] = 0.9
    assert whereabouts.place() is None
    now[0] = 1.1
    assert whereabouts.place() is not None
    whereabouts.begin()
    assert whereabouts.place() is None


def test_outside_of_forward_and_backward_no_layer_is_named() -> None:
    clock = Clock(CpuDevice())
    whereabouts = Whereabouts(clock, 3, slow_clock())
    whereabouts.arrive(2)
    clock.enter(Phase.OPTIMIZER)
    place = whereabouts.place()
    assert place is not None
    assert place.words == "optimizer"


SMALL = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS: dict[str, tuple[Callable[[], PreTrainedModel], int | None]] = {
    "encoder-decoder with relative positions": (
        lambda: T5ForConditionalGeneration(
            T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, **SMALL)
        ),
        4,
    ),
    "encoder-decoder": (
        lambda: BartForConditionalGeneration(
            BartConfig(
                d_model=16,
                encoder_layers=2,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                decoder_start_token_id=2,
                **SMALL,
            )
        ),
        3,
    ),
    "mixture of experts": (
        lambda: MixtralForCausalLM(
            MixtralConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                num_local_experts=4,
                **SMALL,
            )
        ),
        2,
    ),
    "tied head": (lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, **SMALL)), 2),
    "one layer used four times": (
        lambda: AlbertForSequenceClassification(
            AlbertConfig(
                embedding_size=8,
                hidden_size=16,
                num_hidden_layers=4,
                num_attention_heads=2,
                intermediate_size=32,
                **SMALL,
            )
        ),
        None,
    ),
}


def step(
    name: str, arrive: Callable[[int], None] | None, *, checkpointed: bool = False, stop_at: int = 0
) -> list[torch.Tensor]:
    """The loss and the gradients of one micro-step, with hooks or (None) without."""
    torch.manual_seed(3)
    model = MODELS[name][0]().train()
    checkpointing.apply(model, RunConfig(gradient_checkpointing="on" if checkpointed else "off"))
    tokens = torch.arange(3, 15).reshape(2, 6)
    labels = torch.tensor([0, 1]) if name.startswith("one layer") else tokens
    asked = itertools.count(1)
    torch.manual_seed(4)  # of dropout
    if arrive is None:
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
    else:
        with between_layers(model, lambda: next(asked) == stop_at, arrive):
            loss = model(input_ids=tokens, labels=labels).loss
            loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    ("name", "checkpointed"),
    [*((name, False) for name in MODELS), *((name, True) for name in MODELS if not name.startswith("one layer"))],
)
def test_no_bit_of_loss_and_gradients_changes(name: str, checkpointed: bool) -> None:
    arrived: list[int] = []
    with_hooks, without = (step(name, arrive, checkpointed=checkpointed) for arrive in (arrived.append, None))
    assert len(with_hooks) == len(without) > 5
    assert all(torch.equal(one, other) for one, other in zip(with_hooks, without, strict=True))
    assert arrived


@pytest.mark.parametrize("name", MODELS)
def test_it_stops_at_any_layer(name: str) -> None:
    arrived: list[int] = []
    step(name, arrived.append)
    n = MODELS[name][1] or 1
    for at in range(1, 2 * n + 1):  # before each layer's forward, and after each one's backward
        with pytest.raises(Stopped):
            step(name, arrived.append, stop_at=at)


@pytest.mark.parametrize("name", MODELS)
def test_its_numbers_are_right_or_not_there(name: str) -> None:
    make, n = MODELS[name]
    assert countable(make()) == n
    if n is None:
        return
    arrived: list[int] = []
    step(name, arrived.append)
    assert [layer for layer, _ in groupby(arrived)] == [*range(1, n + 2), *range(n, -1, -1)]


def test_a_layer_that_is_called_again_ends_the_counting() -> None:
    clock = Clock(CpuDevice())
    whereabouts = Whereabouts(clock, 2, slow_clock())
    clock.enter(Phase.FORWARD)
    for layer in (1, 2, 1):
        whereabouts.arrive(layer)
    assert whereabouts.place() == Place(phase=Phase.FORWARD)
