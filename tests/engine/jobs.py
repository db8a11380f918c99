"""Small trainings for tests: a real model, real data and the real loop, without threads or a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.contract.records import Phase
from engine.devices.base import Device
from engine.devices.cpu import CpuDevice
from engine.devices.precision import Precision
from engine.techniques import checkpointing, class_loss, compiling, cross_entropy, lora
from engine.techniques.decay import groups_of
from engine.techniques.optimizers import build_optimizer
from engine.techniques.preloading import EpochOrder, build_loader
from engine.techniques.schedules import build_schedule
from engine.training.job import Job, planned_updates
from engine.training.run import class_weights_of
from engine.workloads.collate import Samples
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from tests.engine.heard import Heard

VOCABULARY = 512


def tiny_model(*, dropout: float = 0.1, seed: int = 7, layers: int = 2) -> BertForSequenceClassification:
    """A BERT classifier of 60,000 parameters."""
    torch.manual_seed(seed)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            num_labels=2,
            problem_type="single_label_classification",
        )
    )


def tiny_data(config: RunConfig) -> PreparedData:
    """The dummy workload with labels that differ, so that there is something to learn."""
    data = prepare(config, model_vocab_size=VOCABULARY)
    classes = data.train.classes
    assert classes is not None
    classes[::2] = 1
    return data


@dataclass(kw_only=True)
class Recorded(Heard):
    """A job and what it said."""

    job: Job


def make_job(
    config: RunConfig,
    model: torch.nn.Module | None = None,
    *,
    device: Device | None = None,
    data: PreparedData | None = None,
    should_stop: Any = lambda: False,
    evaluation: Samples | None = None,
) -> Recorded:
    """A job on the CPU whose events are kept; `evaluation` is what it scores."""
    model = lora.apply(model or tiny_model(), config)
    checkpointing.apply(model, config)
    cross_entropy.apply(model, config)
    data = data or tiny_data(config)
    class_loss.apply(model, config, class_weights_of(config, data))
    compiling.apply(model, config, len(data.train))
    device = device or CpuDevice()
    order = EpochOrder(len(data.train), config.seed)
    loader = build_loader(config, data.train, data.collate, order=order, pin=False)
    jobs: list[Job] = []

    def enter(phase: Phase) -> None:
        jobs[0].clock.enter(phase)

    optimizer = build_optimizer(config, groups_of(config, model), enter)
    events: list[Event] = []
    job = Job(
        run_id=1,
        config=config,
        device=device,
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(config, optimizer, planned_updates(config, len(loader))),
        precision=Precision(config.precision, "cpu"),
        loader=loader,
        order=order,
        eval_loader=None
        if evaluation is None
        else build_loader(config, evaluation, data.collate, order=None, pin=False),
        emit=events.append,
        should_stop=should_stop,
    )
    jobs.append(job)
    return Recorded(job=job, events=events)
