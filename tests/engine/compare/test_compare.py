"""Differences to a baseline, and when they are more than noise. Figures of the Tesla P4 are the lecture's."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compare.compare import Quantity, Verdict, changed_knobs, compare, explain, fold, row_of
from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.gpus.units import MIB
from tests.engine.lecture_runs import BASE, CHECKPOINTED, CPU, V100, run, virtual


def verdicts(record: RunRecord, baseline: RunRecord) -> dict[Quantity, Verdict]:
    deltas = compare(row_of([record]), row_of([baseline])).deltas
    return {quantity: delta.verdict for quantity, delta in deltas.items()}


def verdict(quantity: Quantity, record: RunRecord, baseline: RunRecord) -> Verdict:
    return verdicts(record, baseline)[quantity]


def test_more_gpus_say_what_an_update_learns_from_what_each_holds_and_what_is_waited() -> None:
    two = BASE.with_values(gpus=2)
    row = row_of([run(2, two, 14.0, peak_used=7487 * MIB, peak_used_by_rank=(7487 * MIB,) * 2, wait_share=0.12)])
    assert explain(compare(row, row_of([run()]))) == (
        "GPUs 2: effective batch 8 → 16, +418 MiB per GPU (+6 %), −45 % time per sample, waiting 12 % of the time, "
        "loss ±0.000 (no verdict)"
    )
    divided = run(3, two.with_values(parallel="fsdp"), 14.0, peak_used=4000 * MIB, wait_share=0.2)
    assert explain(compare(row_of([divided]), row)) == (
        "parallel fsdp: −3,487 MiB per GPU (−47 %), speed within noise, waiting 12 % → 20 % of the time, "
        "loss ±0.000 (no verdict)"
    )


def test_how_work_is_divided_tells_no_runs_on_one_gpu_apart() -> None:
    alone = [run(1), run(2, BASE.with_values(parallel="fsdp", bucket_mib=5))]
    assert len(fold(alone)) == 1
    two = [run(number, BASE.with_values(gpus=2, parallel=way)) for number, way in enumerate(("ddp", "fsdp"), 3)]
    assert len(fold([*alone, *two])) == 3


def test_the_lectures_trade() -> None:
    """Checkpointing halves the memory for 40 % more time."""
    base = run()
    comparison = compare(row_of([run(2, CHECKPOINTED, 512 / 93.07, peak_used=3619 * MIB)]), row_of([base]))
    memory, time = comparison.deltas[Quantity.MEMORY], comparison.deltas[Quantity.TIME]
    assert memory.difference == -3450 * MIB
    assert memory.percent == pytest.approx(-48.8, abs=0.05)
    assert time.percent == pytest.approx(39.6, abs=0.05)
    assert not comparison.per_sample
    assert [delta.verdict.value for delta in comparison.deltas.values()] == [
        "better",
        "worse",
        "not enough data",  # no virtual GPU, so no forecast of a card that is not there
        "worse",
        *["not enough data"] * 3,  # energy, loss and accuracy: not measured
        *["not enough data"] * 6,  # what only answers have
    ]
    assert explain(comparison) == (
        "checkpointing on: −3,450 MiB (−49 %), +40 % time per sample, loss ±0.000 (no verdict)"
    )


def test_on_a_virtual_gpu_the_times_say_whose_they_are() -> None:
    base, dear = virtual()
    comparison = compare(row_of([dear]), row_of([base]))
    assert explain(comparison) == (
        "checkpointing on: −3,450 MiB (−49 %), +150 % CPU time per sample, +50 % card time by forecast, "
        "loss ±0.000 (no verdict)"
    )
    card = comparison.deltas[Quantity.CARD_SPEED]
    assert (card.value, card.baseline, card.verdict) == (5.0, 7.5, Verdict.WORSE)
    alike = replace(base, run_id=3)
    assert explain(compare(row_of([alike]), row_of([base]))) == (
        "same knobs: memory the same, CPU speed within noise, ±0 % card time by forecast, loss ±0.000 (no verdict)"
    )


def test_changed_knobs_are_old_and_new_in_order() -> None:
    changed = changed_knobs(CHECKPOINTED.with_values(batch_size=16), BASE)
    assert list(changed.items()) == [("batch_size", (8, 16)), ("gradient_checkpointing", ("off", "on"))]
    assert changed_knobs(BASE, BASE) == {}


def repeats(first_id: int, config: RunConfig, name: str, values: list[float]) -> list[RunRecord]:
    """Runs that differ in the seed and in one figure."""
    return [run(first_id + i, config.with_values(seed=i), **{name: value}) for i, value in enumerate(values)]


def test_fold() -> None:
    records = [
        run(1, rate=7.6, peak_used=100, train_loss=0.1),
        run(2, CHECKPOINTED),
        run(3, BASE.with_values(seed=1, device="cuda"), rate=8.0, peak_used=120, train_loss=0.3),
        run(4, rate=7.7, peak_used=110, train_loss=0.1),
        run(5, outcome=Outcome.OUT_OF_MEMORY),
        run(6, outcome=Outcome.OUT_OF_MEMORY),
        run(7, device=V100),
        run(8, device=None),
        run(9, device=None),
    ]
    rows = fold(records)
    assert [row.run_ids for row in rows] == [(1, 3, 4), (2,), (5,), (6,), (7,), (8,), (9,)]
    first = rows[0]
    assert first.steady is not None
    assert first.steady.value == 7.7
    assert first.steady.spread == pytest.approx(0.208, abs=0.001)  # run to run, not update to update
    assert (first.steady.n, first.peak_used, first.peak_range) == (3, 120, 20)
    assert first.train_loss is not None
    assert first.train_loss.value == pytest.approx(0.2)  # the seeds' mean: run 4 repeats run 1
    assert first.train_loss.spread == pytest.approx(math.sqrt(0.02))
    assert first.train_loss.n == 2
    assert rows[1].steady is not None
    assert rows[1].steady.spread == 0.03


def test_a_row_needs_a_run() -> None:
    with pytest.raises(ValueError, match="needs a run"):
        row_of([])
    assert fold([]) == []


def test_another_kind_of_device_is_another_world() -> None:
    comparison = compare(row_of([run(2, device=CPU, rate=0.2)]), row_of([run()]))
    for quantity in (Quantity.MEMORY, Quantity.SPEED, Quantity.TIME):
        delta = comparison.deltas[quantity]
        assert (delta.verdict, delta.difference, delta.percent) == (Verdict.NOT_COMPARABLE, None, None)
        assert delta.why == "measured on cpu and on cuda"
    assert comparison.deltas[Quantity.LOSS].difference == 0
    assert explain(comparison).startswith("same knobs: memory and speed not comparable (measured on cpu and on cuda)")
    assert verdict(Quantity.SPEED, run(device=None), run()) is Verdict.NOT_COMPARABLE


def test_other_work_is_compared_per_sample() -> None:
    """Twice the samples at the same speed take twice the time, and none more per sample."""
    twice = run(2, BASE.with_values(samples=1024), train_runtime_s=2 * 512 / 7.68)
    comparison = compare(row_of([twice]), row_of([run()]))
    assert comparison.per_sample
    time = comparison.deltas[Quantity.TIME]
    assert time.baseline == pytest.approx(1 / 7.68)
    assert time.percent == pytest.approx(0)
    assert time.verdict is Verdict.SAME
    assert compare(row_of([run(3, device=V100)]), row_of([run()])).per_sample
    assert not compare(row_of([run(4, CHECKPOINTED)]), row_of([run()])).per_sample
    assert compare(row_of([run(4)]), row_of([run()]), per_sample=True).per_sample


def test_other_data_has_no_common_loss() -> None:
    reviews = run(2, BASE.with_values(workload="reviews", data="a.csv"), eval_accuracy=0.5)
    delta = compare(row_of([reviews]), row_of([run(eval_accuracy=0.4)])).deltas[Quantity.ACCURACY]
    assert delta.verdict is Verdict.NOT_COMPARABLE
    assert delta.why == "other workload and data"


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.COMPLETED])
def test_runs_that_ended_early(outcome: Outcome) -> None:
    early = run(9, BASE.with_values(batch_size=9), rate=9.0, outcome=outcome, peak_used=MIB)
    seen = verdicts(early, run())
    speed = seen.pop(Quantity.SPEED)
    assert set(seen.values()) == {Verdict.NOT_ENOUGH_DATA}
    assert speed is (Verdict.BETTER if outcome is Outcome.STOPPED else Verdict.NOT_ENOUGH_DATA)


def test_out_of_memory_is_said() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("peak_used", "train_loss"))
    broken = run(9, BASE.with_values(batch_size=9), None, outcome=Outcome.OUT_OF_MEMORY, **nothing)
    assert explain(compare(row_of([broken]), row_of([run()]))) == "batch size 9: run 9 ran out of memory"


def test_sentences() -> None:
    def said(record: RunRecord, baseline: RunRecord | None = None) -> str:
        return explain(compare(row_of([record]), row_of([baseline or run()])))

    assert said(run(2)) == "same knobs: memory the same, speed within noise, loss ±0.000 (no verdict)"
    several = BASE.with_values(batch_size=16, precision="fp16", dropout=False, max_grad_norm=0.0)
    assert said(run(2, several)).startswith("4 knobs changed: ")
    assert said(run(2, BASE.with_values(dropout=False, data="a\nb\x1b"))).startswith("data a b\ufffd, dropout off: ")
    scored = run(2, eval_accuracy=0.8, n_eval=1000), run(eval_accuracy=0.5, n_eval=1000)
    assert said(*scored).endswith("accuracy +30.0 points")
    seeds = [fold(repeats(1, config, "train_loss", [0.48, 0.50, 0.52]))[0] for config in (CHECKPOINTED, BASE)]
    assert explain(compare(seeds[0], seeds[1])).endswith("loss within noise")


@given(
    st.lists(
        st.tuples(*[st.one_of(st.none(), st.floats())] * 4, st.one_of(st.none(), st.integers(-5, 2**60))),
        min_size=1,
        max_size=4,
    )
)
def test_no_figure_of_a_history_raises(figures: list[tuple[Any, ...]]) -> None:
    records = [
        run(i, BASE.with_values(seed=i), rate, steady_spread=spread, train_loss=loss, eval_accuracy=accuracy, n_eval=9)
        for i, (rate, spread, loss, accuracy, _) in enumerate(figures, 1)
    ]
    records = [replace(record, peak_used=values[4]) for record, values in zip(records, figures, strict=True)]
    for row in (row_of(records), row_of(records[:1])):
        for base in (row_of(records), row_of([run(99)])):
            assert explain(compare(row, base))
            assert explain(compare(row, base, per_sample=True))


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, engine.compare.compare, engine.export.export, engine.export.hand_over;"
        "print({'torch', 'numpy', 'transformers', 'datasets', 'textual', 'rich'} & sys.modules.keys())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert said.strip() == "set()"


def test_beside_busy_programs_nobody_won() -> None:
    busy = replace(run(3, CHECKPOINTED, 20.0, peak_used=3619 * MIB), device=CPU, host_cores=2.0, host_free_cores=0.5)
    quiet = replace(run(), device=CPU)
    for row, base in ((busy, quiet), (quiet, busy)):
        comparison = compare(row_of([row]), row_of([base]))
        for quantity in (Quantity.SPEED, Quantity.TIME):
            delta = comparison.deltas[quantity]
            assert delta.verdict is Verdict.DISTURBED
            assert delta.why == "run 3 was on a busy host"
            assert delta.percent is not None  # the difference is shown all the same
        assert comparison.deltas[Quantity.MEMORY].verdict in (Verdict.BETTER, Verdict.WORSE)
        assert explain(comparison).endswith("; run 3 was on a busy host")
