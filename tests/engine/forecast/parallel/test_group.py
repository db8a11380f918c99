"""Forecasts of several GPUs: what each rank needs, how fast they are together, and where that is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import Forecast
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.parallel.everybody import fullest
from engine.forecast.played import Course, expect
from engine.forecast.replay import Beside
from engine.forecast.sequence import sequence
from engine.gpus.catalogue import find
from engine.gpus.contexts import nccl_most
from engine.gpus.units import MIB
from engine.tracing.stack import CURRENT
from engine.workloads.data_shape import DataShape, Part
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.forecast.five_models import small


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    torch.set_num_threads(1)
    return Forecaster()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return small(tmp_path_factory.mktemp("models"), "bert", device="auto", samples=24)


def _made(forecaster: Forecaster, config: RunConfig, card: str = "a100-40gb", **given: object) -> Forecast:
    return forecaster.forecast(config, find(card), Assumptions(**given))  # type: ignore[arg-type]


def test_ddp_holds_its_gradients_twice(forecaster: Forecaster, bert: RunConfig) -> None:
    alone = _made(forecaster, bert)
    ranks = _made(forecaster, bert.with_values(gpus=2))
    n_bytes = 4 * alone.n_parameters
    # a large block keeps a rest of less than 1 MiB
    assert n_bytes <= ranks.peak_allocated - alone.peak_allocated < n_bytes + MIB
    assert len(ranks.peak_used_by_rank) == 2
    assert set(ranks.peak_used_by_rank) == {ranks.peak_used}
    assert alone.peak_used_by_rank == ()


def test_zero1_divides_the_states_and_says_who_has_most(forecaster: Forecaster, bert: RunConfig) -> None:
    ddp = _made(forecaster, bert.with_values(gpus=2))
    zero1 = _made(forecaster, bert.with_values(gpus=2, parallel="zero1"))
    assert zero1.breakdown["optimizer"] < ddp.breakdown["optimizer"]
    first, second = zero1.peak_used_by_rank
    assert first != second  # whole tensors, of which the embedding is one
    assert max(first, second) == zero1.peak_used <= ddp.peak_used
    assert zero1.peak_allocated < ddp.peak_allocated
    assert any("whole tensors" in note for note in zero1.notes)


@pytest.mark.parametrize("knobs", [{}, {"optimizer_implementation": "foreach"}, {"precision": "fp16"}])
def test_one_rank_with_all_states_steps_as_one_gpu_does(
    forecaster: Forecaster, bert: RunConfig, knobs: dict[str, str]
) -> None:
    """What is played in the optimizer's place is the optimizer's own."""
    config = bert.with_values(gradient_accumulation_steps=2, **knobs)
    _made(forecaster, config)
    traces, data = list(forecaster._traces.values())[-1], dummy_shape(config)
    order = sequence(config, data)
    expect(traces, [order])
    (rank,) = traces.ranks.zero1(1, 25, next(iter(order.trained)))
    assert rank.beside.steps is not None
    own = Course(traces, order, CURRENT, Beside(steps=rank.beside.steps)).free()
    assert own == Course(traces, order, CURRENT).free()


def test_the_states_of_all_ranks_are_those_of_one(forecaster: Forecaster, bert: RunConfig) -> None:
    """As in llm.c's pull request 309: m and v of GPT-2 are 474 MiB each, a half or an eighth of it on each rank."""
    config = bert.with_values(gpus=2)
    _made(forecaster, config)
    traces = list(forecaster._traces.values())[-1]
    batch = next(iter(sequence(config, dummy_shape(config)).trained))
    (alone,) = traces.ranks.zero1(1, 25, batch)
    for ranks in (2, 3, 8):
        assert sum(rank.state_bytes for rank in traces.ranks.zero1(ranks, 25, batch)) == alone.state_bytes


def test_together_they_are_faster_by_less_than_their_number(forecaster: Forecaster, bert: RunConfig) -> None:
    for parallel in ("ddp", "zero1", "fsdp"):
        made = _made(forecaster, bert.with_values(gpus=4, parallel=parallel))
        assert made.wait_share is not None
        assert made.speedup is not None
        assert 0 < made.wait_share < 1
        assert made.speedup < 4
        assert (made.gpus, made.parallel) == (4, parallel)
        assert made.together is not None
        assert made.together.startswith(f"4 × {parallel}: ")


def test_a_slower_link_means_more_waiting(forecaster: Forecaster, bert: RunConfig) -> None:
    config = bert.with_values(gpus=2)
    shares = [
        _made(forecaster, config, "rtx-3090", **given).wait_share
        for given in ({"link": "nvlink"}, {}, {"link_rate": 1e9})
    ]
    assert None not in shares
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert len(set(shares)) == 3


def test_a_link_that_the_cards_lack_is_refused(forecaster: Forecaster, bert: RunConfig) -> None:
    with pytest.raises(ConfigError, match="--link nvlink"):
        _made(forecaster, bert.with_values(gpus=2), "tesla-p4", link="nvlink")
    with pytest.raises(ConfigError, match="use nvlink or pcie"):
        _made(forecaster, bert.with_values(gpus=2), link="infiniband")


def test_beyond_a_machine_the_speed_is_not_known(forecaster: Forecaster, bert: RunConfig) -> None:
    made = _made(forecaster, bert.with_values(gpus=16, samples=480))
    assert (made.samples_per_s, made.wait_share, made.speedup) == (None, None, None)
    assert len(made.peak_used_by_rank) == 16
    assert made.to_json()["wait_share"] is None
    assert any("16 are in several" in note for note in made.notes)


def test_how_many_has_to_be_said(forecaster: Forecaster, bert: RunConfig) -> None:
    with pytest.raises(ConfigError, match="say how many"):
        _made(forecaster, bert.with_values(gpus=None))


def test_nccl_is_in_the_range_until_it_is_measured(forecaster: Forecaster, bert: RunConfig) -> None:
    config = bert.with_values(gpus=2)
    outside = {"context_bytes": 500 * MIB, "library_bytes": 100 * MIB}
    unmeasured = _made(forecaster, config, **outside)
    assert unmeasured.used_range == (unmeasured.peak_used, unmeasured.peak_used + nccl_most(2))
    assert any("NCCL" in note for note in unmeasured.notes)
    measured = _made(forecaster, config, **outside, has_nccl=True)
    assert measured.used_range is None
    assert not any("NCCL" in note for note in measured.notes)
    tight = replace(Assumptions(**outside), limit_bytes=unmeasured.peak_used + 300 * MIB)
    unsure = forecaster.forecast(config, find("a100-40gb"), tight)
    assert unsure.fits
    assert unsure.near_limit


def test_json_has_every_gpus_memory(forecaster: Forecaster, bert: RunConfig) -> None:
    told = _made(forecaster, bert.with_values(gpus=2, parallel="zero1")).to_json()
    assert told["gpus"] == 2
    assert told["parallel"] == "zero1"
    assert max(told["peak_used_mib_by_gpu"]) == told["peak_used_mib"]
    alone = _made(forecaster, bert).to_json()
    assert [alone[name] for name in ("gpus", "parallel", "peak_used_mib_by_gpu", "wait_share", "speedup")] == [
        1,
        None,
        None,
        None,
        None,
    ]


def test_ranks_that_get_longer_batches_need_more(forecaster: Forecaster, bert: RunConfig) -> None:
    """Of two ranks the second takes every long sample: both are followed, and it is the fullest."""
    import numpy as np

    config = bert.with_values(gpus=2, batch_size=4, padding="longest", samples=16)
    _made(forecaster, config)
    traces = list(forecaster._traces.values())[-1]
    tokens = np.full(16, 16, dtype=np.int32)
    shape = dummy_shape(config)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(config.seed)).tolist()
    tokens[order[1::2]] = 64
    data = DataShape(
        vocab_size=None, n_labels=2, fields=shape.fields, train=Part(tokens=tokens), evaluation=None, width=None
    )
    found = fullest(config, data, traces, CURRENT)
    assert found.reserved[0] < found.reserved[1]
    assert found.order.acts == sequence(config, data, 1).acts


def test_more_ranks_than_are_followed_are_each_told(forecaster: Forecaster, bert: RunConfig) -> None:
    made = _made(forecaster, bert.with_values(gpus=64, parallel="zero1", samples=640))
    assert len(made.peak_used_by_rank) == 64
    assert max(made.peak_used_by_rank) == made.peak_used
