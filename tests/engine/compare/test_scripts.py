"""Runs of users' own scripts: told apart, compared, explained, and as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.compare.compare import Quantity, Verdict, changed_knobs, compare, explain, fold, row_of
from engine.compare.explain import evidence, ways_to_fit
from engine.compare.rows import Figure, about_seeds
from engine.contract import script_entries
from engine.contract.config import RunConfig
from engine.contract.figures import SPEED
from engine.contract.knob import ANSWER, SCRIPT
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_figures import ScriptFigures
from engine.contract.script_flags import all_turned, turned
from engine.export.export import to_latex, to_markdown
from tests.engine.lecture_runs import run

LOOP = RunConfig(
    job=SCRIPT, command="python train.py --b={batch_size} --dtype={precision:bf16=b,fp32=f} --n={n=64,128}"
)
TRAINER = RunConfig(job=SCRIPT, command="python run.py --lr 3", command_flags="transformers")
SEEN = ScriptFigures(exit_code=0, batch_size=16, gradient_accumulation_steps=2)


def script(run_id: int, config: RunConfig = LOOP, rate: float | None = 10.0, **values: Any) -> RunRecord:
    return run(run_id, config, rate, **{"script": SEEN, **values})


def test_what_the_command_carries_and_its_own_knobs_are_what_changed() -> None:
    assert changed_knobs(all_turned(LOOP, {"batch_size": 16, "n": "128"}), LOOP) == {
        "batch_size": (8, 16),
        "n": ("64", "128"),
    }
    assert changed_knobs(turned(TRAINER, "batch_size", 8), TRAINER) == {"batch_size": (None, 8)}
    other = replace(TRAINER, command="python run.py --lr 4")
    assert list(changed_knobs(other, TRAINER)) == ["command"]
    # how a knob's place is written is not another script
    assert changed_knobs(replace(LOOP, command=f"{LOOP.command} --seed={{seed}}"), LOOP) == {"seed": (None, 42)}


def test_repeats_are_runs_of_one_command_with_the_same_values() -> None:
    runs = [script(1), script(2), script(3, turned(LOOP, "n", "128")), script(4, turned(LOOP, "n", "64"))]
    assert [row.run_ids for row in fold(runs)] == [(1, 2, 4), (3,)]


def test_repeats_without_a_seed_in_the_command_count_as_runs_unless_all_are_equal() -> None:
    losses = [script(number, train_loss=loss) for number, loss in ((1, 0.5), (2, 0.6), (3, 0.7))]
    [row] = fold(losses)
    assert row.train_loss is not None
    assert (row.train_loss.n, row.train_loss.spread) == (3, pytest.approx(0.1))
    assert about_seeds([row]) == (
        "Repeats of a command that carries no {seed} count as runs: which seeds the script took is not known."
    )
    [fixed] = fold([replace(each, train_loss=0.5) for each in losses])
    assert fixed.train_loss == Figure(0.5, None, 1)
    seeded = turned(TRAINER, "seed", 1)
    [one] = fold([script(1, seeded, train_loss=0.5), script(2, seeded, train_loss=0.6)])
    assert one.train_loss is not None
    assert one.train_loss.n == 1
    assert about_seeds([one]) is None


def test_what_the_other_command_carries_is_not_said_to_be_unset() -> None:
    torchrun = RunConfig(job=SCRIPT, command="torchrun --nproc-per-node={gpus} train.py", gpus=2)
    fixed = RunConfig(job=SCRIPT, command="torchrun train.py")
    told = explain(compare(row_of([script(2, fixed)]), row_of([script(1, torchrun)])))
    assert told.startswith("GPUs as the script has it: ")


def test_a_difference_is_told_with_the_scripts_own_names() -> None:
    base, other = script(1), script(2, all_turned(LOOP, {"n": "128", "precision": "bf16"}), 12.0)
    comparison = compare(row_of([other]), row_of([base]))
    assert comparison.per_sample  # of another model, perhaps
    assert explain(comparison).startswith("precision bf16, n 128: memory the same, −17 % time per sample")
    assert evidence("n", [base, script(3, turned(LOOP, "n", "128"), 5.0), other]) == [
        "run 3 against run 1, n 128: memory the same, +100 % time per sample, loss ±0.000 (no verdict)"
    ]
    another = compare(row_of([script(3, TRAINER)]), row_of([base]))
    assert another.deltas[Quantity.LOSS].verdict is Verdict.NOT_COMPARABLE
    assert explain(another).startswith("another command: ")
    answer = run(4, RunConfig(job=ANSWER, model="gpt2-tiny", task="causal-lm"))
    assert "run 4 is to answer, run 1 a script's" in explain(compare(row_of([answer]), row_of([base])))


def test_ways_to_fit_are_those_that_the_command_can_go() -> None:
    died = replace(script(1, turned(LOOP, "batch_size", 16)), outcome=Outcome.OUT_OF_MEMORY)
    assert (
        ways_to_fit(died)
        == [
            "batch size 8: about half of the activations, and updates from fewer samples.",
            "precision bf16: saves half of the activations."
            if died.device and died.device.sixteen_bits == "bf16"
            else "precision fp16: saves half of the activations.",
        ][: 1 + (died.device is not None and died.device.sixteen_bits == "bf16")]
    )
    both = turned(turned(TRAINER, "batch_size", 16), "gradient_accumulation_steps", 1)
    ways = ways_to_fit(replace(died, config=both))
    assert ways[0].startswith("batch size 8 with accumulation 2")
    assert any(way.startswith("checkpointing on") for way in ways)
    assert not any("LoRA" in way or "chunked" in way for way in ways)  # no flag of the script's


def test_a_table_has_what_was_turned_and_what_was_seen() -> None:
    runs = [
        script(1),
        script(2, turned(LOOP, "n", "128"), script=replace(SEEN, figures={"eval_loss": 0.25, "eval_runtime": 3.0})),
        script(3, TRAINER, script=replace(SEEN, exit_code=3), outcome=Outcome.FAILED),
        script(4, replace(TRAINER, command="python run.py --lr 4")),
    ]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in to_markdown(runs).splitlines()[:6]]
    table = {name: [row[index] for row in rows] for index, name in enumerate(head)}
    assert table["script"] == ["train.py", "train.py", "run.py", "run.py"]
    assert table["arguments"] == ["–", "–", "--lr 3", "--lr 4"]
    assert table["n"] == ["64", "128", "–", "–"]
    assert table["batch"] == ["8", "8", "16", "16"]  # the last two as it was seen
    assert table["acc"] == ["2"] * 4
    assert table["prec"] == ["fp32", "fp32", "–", "–"]
    assert table["eval loss"] == ["–", "0.250", "–", "–"]
    assert table["exit"] == ["0", "0", "3", "0"]
    assert "batch: where the command does not carry it, as it was seen." in to_markdown(runs)
    assert r"\begin{tabular}" in to_latex(runs, [runs[0]])


def test_jobs_have_tables_of_their_own_and_differences_within_one_only() -> None:
    text = to_markdown([run(1), script(2)], [run(1)])
    training, scripts = text.split("### Scripts")
    assert training.startswith("### Training")
    assert "model" in training.splitlines()[2]
    assert "script" in scripts.splitlines()[2]
    assert "No differences to run 1, whose job is to train." in scripts
    assert "No differences to run 2, whose job is a script's." in to_markdown([run(1)], [script(2)])


def test_updates_are_told_where_samples_are_not_seen() -> None:
    blind = script(1, rate=None, train_runtime_s=32.0)
    assert script_entries.UPDATE_SPEED in script_entries.entries([blind])
    assert script_entries.UPDATE_SPEED.read(blind) == 2.0
    assert script_entries.UPDATE_SPEED not in script_entries.entries([script(2)])
    assert SPEED in script_entries.entries([blind])


def test_a_knob_that_a_command_does_not_carry_is_a_dash_though_its_none_means_something() -> None:
    carried = script(1, RunConfig(job=SCRIPT, command="torchrun --nproc_per_node={gpus} t.py", gpus=2))
    column = next(entry for entry in script_entries.knobs([carried, script(2)]) if entry.name == "gpus")
    assert [column.of(carried), column.of(script(2))] == ["2", "–"]
