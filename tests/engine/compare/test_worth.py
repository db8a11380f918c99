"""Whether guessing was worth it: beside the same run without guesses, or what is missing to tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.compare.worth import worth
from engine.contract.answers import AnswerFigures
from engine.contract.by_job import defaults_of
from engine.contract.conditions import Conditions, Neighbour
from engine.contract.records import DeviceInfo, Outcome, RunRecord

CPU = DeviceInfo(name="EPYC", kind="cpu", memory_label="RAM")
P4 = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=2**30)


def run(number: int, speed: float | None, device: DeviceInfo = CPU, **knobs: Any) -> RunRecord:
    figures = AnswerFigures(generation_tokens_per_s=speed, tokens_per_forward=2.5, proposed=400, accepted=100)
    figures = replace(figures, acceptance=0.25)
    config = defaults_of("answer").with_values(model="run:3", **knobs)
    return RunRecord(run_id=number, config=config, outcome=Outcome.COMPLETED, device=device, answer=figures)


GUESSED = "2.50 tokens per forward at 25 % acceptance, 300 guesses wasted"
LOOKUP = run(9, 300.0, speculate="lookup", speculate_tokens=8, seed=5)


def test_the_newest_run_that_made_none_is_what_it_is_measured_by() -> None:
    others = [run(4, 400.0), run(7, 200.0), run(8, 100.0, prompt_len=99), LOOKUP]
    assert worth(LOOKUP, others) == (
        f"The guesses of run 9 were worth it: 1.50 × the tokens/s of run 7, which made none, {GUESSED}."
    )
    slow = run(6, 80.0, speculate="draft", draft_model="run:2")
    assert (worth(slow, others) or "").startswith(
        f"The guesses of run 6 were not worth it: 2.50 × slower than run 7, which made none, {GUESSED}, slower, as"
    )


def test_what_is_missing_is_said() -> None:
    elsewhere = run(5, 200.0, device=P4)
    unfinished = replace(run(6, 200.0), outcome=Outcome.STOPPED)
    for others in ([], [LOOKUP], [elsewhere], [unfinished], [run(8, 100.0, prompt_len=99)]):
        assert worth(LOOKUP, others) == (
            "Whether the guesses of run 9 were worth it is not known: there is no run with the same knobs and "
            "--speculate off."
        )
    assert worth(LOOKUP, [run(7, None)]) == (
        "Whether the guesses of run 9 were worth it is not known: run 7 wrote too few tokens to tell its speed."
    )
    assert "run 9 wrote too few" in (worth(run(9, None, speculate="lookup"), [run(7, 100.0)]) or "")


def test_a_disturbed_run_gets_no_verdict() -> None:
    met = replace(run(7, 200.0), conditions=Conditions(neighbours=(Neighbour(pid=7),)))
    assert worth(LOOKUP, [met]) == (
        "Whether the guesses of run 9 were worth it is not known, as run 7 was contended: 1.50 × the tokens/s of run "
        f"7, which made none, {GUESSED}."
    )


def test_times_of_a_virtual_card_are_the_cpus() -> None:
    sentence = worth(run(2, 300.0, device=P4, speculate="lookup"), [run(1, 200.0, device=P4)])
    assert "1.50 × the CPU tokens/s of run 1" in (sentence or "")


def test_nothing_is_said_of_runs_that_did_not_guess_or_did_not_end() -> None:
    assert worth(run(1, 100.0), [run(2, 100.0)]) is None
    assert worth(replace(LOOKUP, outcome=Outcome.OUT_OF_MEMORY), [run(1, 100.0)]) is None
