"""Marks of rows: which runs were disturbed, how it is said, and that they get no verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.compare.compare import Quantity, Verdict, compare, explain, fold, row_of
from engine.compare.explain import evidence
from engine.contract.as_json import record_to_json
from engine.contract.conditions import Conditions, Neighbour, Slowdown, from_plain, to_plain
from engine.contract.figures import STATUS
from engine.contract.marks import marks_of, sentences
from engine.contract.records import RunRecord
from engine.export.export import read_csv, to_csv, to_markdown
from engine.gpus.units import MIB
from engine.history.history import History
from engine.history.records import read_record, to_config, to_device, to_figures
from tests.engine.lecture_runs import BASE, CHECKPOINTED, run

ANNA = Neighbour(pid=4242, user="anna", command="python train.py", peak_memory=30_000 * MIB, sm=87.0, share=0.4)
SHARED = Conditions(neighbours=(ANNA,), shared=0.4, peak_others=30_000 * MIB, slowdowns=())
HOT = Conditions(neighbours=(), shared=0.0, peak_others=0, slowdowns=(Slowdown(reason="too hot", share=0.25),))
CAPPED = replace(HOT, slowdowns=(Slowdown(reason="power cap", share=0.9), Slowdown(reason="hot", share=0.001)))


def test_marks_say_who_how_much_and_how_long() -> None:
    assert sentences(run(conditions=SHARED)) == [
        "Contended 40 % of the time: the card was shared with anna's process 4242 (30000 MiB, 87 % of the SMs, "
        "python train.py)."
    ]
    assert sentences(run(conditions=HOT)) == ["Throttled 25 % of the time: the card slowed itself down, too hot 25 %."]
    both = run(conditions=replace(SHARED, slowdowns=HOT.slowdowns))
    assert STATUS.of(both) == "completed, contended, throttled"


def test_a_card_at_its_power_limit_or_hot_for_a_moment_marks_nothing() -> None:
    assert marks_of(run(conditions=CAPPED)) == ()
    assert marks_of(run()) == ()
    assert STATUS.of(run(conditions=CAPPED)) == "completed"


@pytest.mark.parametrize("disturbed", ["row", "baseline"])
def test_a_disturbed_run_is_neither_faster_nor_slower(disturbed: str) -> None:
    more = {"conditions": SHARED, "energy": 20_000.0}
    row = run(2, CHECKPOINTED, 5.5, peak_used=3619 * MIB, **(more if disturbed == "row" else {"energy": 1e4}))
    base = run(1, **(more if disturbed == "baseline" else {"energy": 1e4}))
    compared = compare(row_of([row]), row_of([base]))
    number = row.run_id if disturbed == "row" else base.run_id
    for quantity in (Quantity.MEMORY, Quantity.SPEED, Quantity.TIME, Quantity.ENERGY):
        delta = compared.deltas[quantity]
        assert (delta.verdict, delta.why) == (Verdict.DISTURBED, f"run {number} was contended")
    assert explain(compared).endswith(f"; run {number} was contended")
    assert "time per sample (no verdict)" in explain(compared)


def test_heat_leaves_the_memory_comparable() -> None:
    compared = compare(row_of([run(2, CHECKPOINTED, 5.5, peak_used=3619 * MIB, conditions=HOT)]), row_of([run()]))
    assert compared.deltas[Quantity.MEMORY].verdict is Verdict.BETTER
    assert compared.deltas[Quantity.SPEED].why == "run 2 was throttled"


def test_repeats_and_evidence_leave_a_disturbed_run_out() -> None:
    runs = [run(1), run(2, BASE.with_values(seed=2)), run(3, BASE.with_values(seed=3), 3.0, conditions=SHARED)]
    assert [row.run_ids for row in fold(runs)] == [(1, 2), (3,)]
    turned = run(4, CHECKPOINTED, 5.5, conditions=SHARED)
    assert evidence("gradient_checkpointing", [run(1), turned]) == []
    assert len(evidence("gradient_checkpointing", [run(1), replace(turned, conditions=None)])) == 1


def test_energy_is_compared_by_the_sample() -> None:
    base = run(1, energy=7200.0)
    half = run(2, BASE.with_values(samples=BASE.samples // 2), energy=3600.0, train_runtime_s=512 / 7.68 / 2)
    delta = compare(row_of([half]), row_of([base])).deltas[Quantity.ENERGY]
    assert delta.percent == pytest.approx(0)
    assert "energy within noise" in explain(compare(row_of([half]), row_of([base])))


def test_json_csv_and_tables_carry_the_marks() -> None:
    shared, alone, unknown = (
        run(1, conditions=SHARED, energy=7200.0, energy_source="counter"),
        run(2, conditions=HOT),
        run(3),
    )
    told = record_to_json(shared)
    assert told["contended"] == [
        {
            "pid": 4242,
            "user": "anna",
            "command": "python train.py",
            "peak_memory_mib": 30_000,
            "sm": 87.0,
            "share": 0.4,
        }
    ]
    assert (told["throttled"], told["energy_wh"], told["energy_source"]) == ([], 2.0, "counter")
    assert told["energy_j_per_sample"] == pytest.approx(7200 / 512)
    assert record_to_json(alone)["contended"] == []
    assert record_to_json(alone)["throttled"] == [{"reason": "too hot", "share": 0.25}]
    empty = record_to_json(unknown)
    assert {empty[name] for name in ("contended", "throttled", "energy_wh", "energy_j_per_sample")} == {None}
    rows = read_csv(to_csv([shared, alone, unknown], [run(9)]))
    assert [row["contended"] for row in rows] == [
        "anna's process 4242 (30000 MiB, 87 % of the SMs, python train.py)",
        "no",
        None,
    ]
    assert [row["throttled"] for row in rows] == ["no", "too hot 25 %", None]
    assert [row["energy_wh"] for row in rows] == [2.0, None, None]
    assert rows[0]["verdict_samples_per_s"] == "disturbed"
    table = to_markdown([shared, alone, unknown], [unknown])
    assert "Run 1 was contended 40 % of the time." in table
    assert "Run 2 was throttled 25 % of the time." in table
    assert "anna" not in table
    assert "energy Wh" in table
    assert "energy" not in to_markdown([unknown])


def test_the_history_keeps_them(tmp_path: Path) -> None:
    record = run(conditions=replace(SHARED, slowdowns=HOT.slowdowns), energy=1234.5, energy_source="power")
    assert record.device is not None
    with History(tmp_path / "history.sqlite3") as history:
        run_id = history.writer.begin_run(record.config, record.device, 1.0)
        history.writer.finish_run(replace(record, run_id=run_id))
        kept = history.run(run_id)
    assert kept is not None
    assert (kept.conditions, kept.energy, kept.energy_source) == (record.conditions, 1234.5, "power")


@pytest.mark.parametrize(
    "stored",
    [
        None,
        3,
        "x",
        [],
        {"neighbours": 3, "slowdowns": "hot", "shared": "much", "peak_others": 1.5},
        {"neighbours": [{"user": "anna"}], "slowdowns": [{"reason": 3, "share": 1}]},
        {"neighbours": [7], "slowdowns": {}},
    ],
)
def test_what_another_version_wrote_becomes_unknown(stored: object) -> None:
    record = run()
    figures = {**json.loads(to_figures(record)), "conditions": stored}
    row = (1, "completed", 1.0, "node", to_config(record.config), to_device(record.device), json.dumps(figures))
    assert read_record(row).conditions in (None, Conditions())


def test_plain_and_back() -> None:
    for met in (None, SHARED, HOT, CAPPED, Conditions()):
        assert from_plain(json.loads(json.dumps(to_plain(met)))) == met
    more = {**(to_plain(SHARED) or {}), "weather": "fine"}
    assert from_plain(more) == SHARED


def test_a_record_says_nothing_of_a_row_without_conditions() -> None:
    assert RunRecord(run_id=1, config=BASE, outcome=run().outcome).conditions is None
