"""A plan of answers as lines: each run's speed, latency, memory and price, and the table at its end."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from engine.contract.events import PlanProgress, PlanStarted, RunFinished
from engine.contract.records import Outcome, Phase
from tests.engine.compare.test_closing_answers import ideas
from tui.console.sweep_rows import Rows
from tui.console.sweep_tables import plan_table, repeats_table


def drawn(table: object) -> list[str]:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_run_is_a_line_with_what_its_idea_gained_and_cost() -> None:
    plan, records = ideas()
    rows = Rows(plan)
    rows.lines(PlanStarted(plan_id=1, name=plan.name, title=plan.title, total=plan.total))
    lines = {}
    for position, record in enumerate(records, 1):
        label = next(run.label for run in plan.runs if run.config == record.config)
        rows.lines(PlanProgress(plan_id=1, position=position, total=plan.total, label=label))
        (lines[label],) = rows.lines(RunFinished(record=record))
    assert "tg    150 tokens/s  TTFT p50   40.0 ms  TPOT p50   6.67 ms" in lines["KV cache"]
    assert "KV 3.0 MiB" in lines["KV cache"]
    assert "hit rate 25 %" in lines["response cache"]
    assert "acceptance" in lines["lookup"]
    assert "acceptance" not in lines["KV cache"]
    assert not any("loss" in line or "samples/s" in line for line in lines.values())


def test_a_run_that_did_not_fit_says_where() -> None:
    plan, records = ideas()
    failed = replace(records[1], answer=None, outcome=Outcome.OUT_OF_MEMORY, failed_phase=Phase.DECODE)
    (line,) = Rows(plan).lines(RunFinished(record=failed))
    assert line.endswith("out of memory in decode")
    assert "tg      – tokens/s" in line


def test_the_table_at_the_end_has_the_columns_of_answers() -> None:
    plan, records = ideas()
    table, notes = plan_table(plan, records) or (None, [])
    lines = drawn(table)
    heading = " ".join(lines[0].split() + lines[1].split())
    for name in ("tg", "TTFT", "TPOT", "hit", "acceptance", "KV", "agreement", "status"):
        assert name in heading
    assert "loss" not in heading
    assert not any("The lecture" in note for note in notes)
    assert notes[0].startswith("→ space for computation: ")
    assert len(lines) == 2 + len(plan.runs)
    narrow, _ = plan_table(plan, records, narrow=True) or (None, [])
    assert max(map(len, drawn(narrow))) < max(map(len, lines))


def test_repeats_of_answers_have_their_spread() -> None:
    _, records = ideas()
    base = records[1]
    assert base.answer is not None
    again = replace(base, run_id=99, answer=replace(base.answer, generation_tokens_per_s=154.0))
    first, *lines = drawn(repeats_table([base, again]))
    assert "tg tokens/s" in first
    assert "152 ±3" in lines[0]
