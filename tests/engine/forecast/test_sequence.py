"""The order in which a forecast takes a run's acts is the loop's."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from engine.contract.config import RunConfig
from engine.forecast.sequence import Kind, sequence
from engine.workloads.data_shape import DataShape, Part


def loop(config: RunConfig, micro_steps: int) -> list[Kind]:
    """As `engine.training.trainer` goes."""
    acts, done = [], 0
    every = config.eval_steps
    for epoch in range(config.epochs):
        for _ in range(-(-micro_steps // config.gradient_accumulation_steps)):
            acts.append(Kind.WINDOW)
            done += 1
            if every is not None and done % every == 0:
                acts.append(Kind.EVALUATION)
        acts.append(Kind.LEAVE)
        if every is None or (epoch + 1 == config.epochs and done % every):
            acts.append(Kind.EVALUATION)
    return acts


@pytest.mark.parametrize("uniform", [True, False])
def test_evaluations_stand_where_the_loop_makes_them(uniform: bool) -> None:
    tokens = np.full(23, 9, dtype=np.int32) if uniform else np.arange(4, 27, dtype=np.int32)
    data = DataShape(
        vocab_size=None,
        n_labels=2,
        fields=(("input_ids", True), ("labels", False)),
        train=Part(tokens=tokens),
        evaluation=Part(tokens=tokens[:5]),
    )
    for every, accumulation, epochs in product((None, 1, 2, 5, 7, 100), (1, 3), (1, 3)):
        config = RunConfig(
            workload="reviews",
            batch_size=2,
            gradient_accumulation_steps=accumulation,
            epochs=epochs,
            eval_steps=every,
        )
        acts = [act.kind for act in sequence(config, data).acts for _ in range(act.times)]
        assert acts == loop(config, 12), (every, accumulation, epochs)
