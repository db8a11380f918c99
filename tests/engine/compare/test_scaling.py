"""How much of several GPUs' speed a run gets, and which run on one of them it is measured by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.compare.scaling import OneGpu, scaling
from engine.contract.conditions import Conditions, Neighbour
from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from tests.engine.lecture_runs import BASE, V100, VIRTUAL, run

TWO = BASE.with_values(gpus=2, device="cuda:0,1")


def on_two(run_id: int = 2, rate: float = 14.0, **values: object) -> RunRecord:
    return run(run_id, values.pop("config", TWO), rate, **values)  # type: ignore[arg-type]


def test_it_is_the_speed_of_all_over_as_many_times_the_speed_of_one() -> None:
    assert scaling(on_two(), run(rate=8.0)) == 14.0 / (2 * 8.0)
    four = run(3, BASE.with_values(gpus=4, parallel="fsdp", reshard_after_forward=False, seed=7), 24.0)
    assert scaling(four, run(rate=8.0)) == 24.0 / (4 * 8.0)


def test_steady_speeds_are_measured_by_steady_ones_and_whole_trainings_by_whole_ones() -> None:
    several, one = on_two(samples_per_s=10.0), run(rate=8.0, samples_per_s=5.0)
    assert scaling(several, one) == 14.0 / 16.0
    assert scaling(several, replace(one, updates=3)) == 10.0 / 10.0
    assert scaling(replace(several, samples_per_s=None, updates=3), one) is None


@pytest.mark.parametrize(
    "one",
    [
        None,
        run(config=BASE.with_values(batch_size=4)),
        run(config=BASE.with_values(gradient_accumulation_steps=2)),
        run(device=V100),
        run(device=replace(VIRTUAL)),
        run(device=None),
        run(config=TWO),
        run(rate=None),
    ],
)
def test_only_the_same_work_on_one_gpu_of_the_same_model_says_anything(one: RunRecord | None) -> None:
    assert scaling(on_two(), one) is None


def test_a_run_on_one_gpu_has_none() -> None:
    assert scaling(run(2), run()) is None
    assert OneGpu([run(), run(2)]).scaling(run(2)) is None


def test_a_virtual_gpu_is_as_fast_as_the_machine_that_stands_in_for_it() -> None:
    several = on_two(device=VIRTUAL, host="here")
    assert scaling(several, run(rate=8.0, device=VIRTUAL, host="here")) is not None
    assert scaling(several, run(rate=8.0, device=VIRTUAL, host="elsewhere")) is None
    assert scaling(on_two(host="here"), run(rate=8.0, host="elsewhere")) is not None


def test_the_newest_completed_run_of_each_kind_measures_those_on_several() -> None:
    other = RunConfig(model="gpt2")
    contended = Conditions(neighbours=(Neighbour(pid=1, user="else", command="python", share=0.5),))
    history = [
        run(1, rate=10.0),
        run(2, rate=8.0),
        run(3, other, rate=3.0),
        run(4, rate=1.0, outcome=Outcome.STOPPED),
        run(5, rate=2.0, conditions=contended),
    ]
    known = OneGpu(history)
    assert known.scaling(on_two()) == 14.0 / 16.0
    assert known.scaling(on_two(config=replace(other, gpus=2), rate=6.0)) == 6.0 / 6.0
    assert known.scaling(on_two(config=RunConfig(model="bert-small", gpus=2))) is None
    assert OneGpu(history, baseline=history[0]).scaling(on_two()) == 14.0 / 20.0
    assert OneGpu(history, baseline=history[2]).scaling(on_two()) == 14.0 / 16.0


def test_its_column_is_in_percent_and_unknown_without_a_row_to_measure_by() -> None:
    entry = OneGpu([run(rate=8.0)]).entry
    assert [entry.of(on_two()), entry.of(run())] == ["88 %", "–"]
    assert OneGpu([]).entry.of(on_two()) == "–"
