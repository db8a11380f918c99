"""What the title says of a batch job, and how the results table shows rows that were disturbed."""

from __future__ import annotations

import time

import pytest

from engine.contract.conditions import Conditions, Neighbour, Slowdown
from engine.contract.config import RunConfig
from engine.contract.job import BatchJob
from tests.tui.fake_session import GPU, finished, ready
from tui.drawing.cells import Line
from tui.panes.results import ResultsPane
from tui.panes.title import TitlePane
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.state import State

ALONE = Conditions(neighbours=(), shared=0.0, peak_others=0, slowdowns=())
SHARED = Conditions(neighbours=(Neighbour(pid=4242, user="anna", peak_memory=2**30, share=0.4),), shared=0.4)
HOT = Conditions(neighbours=(), slowdowns=(Slowdown(reason="too hot", share=0.3),))


@pytest.fixture
def state() -> State:
    made = State(KnobEditor(RunConfig()))
    fold(made, ready())
    return made


def text(line: Line) -> str:
    return "".join(part for part, _ in line)


def title(state: State, width: int) -> str:
    (line,) = TitlePane().body(state, width, 1)
    return text(line)


def test_the_title_names_the_job_and_what_it_has_left(state: State) -> None:
    assert "job" not in title(state, 200)
    state.job = BatchJob(job_id="4242", node="node17", partition="gpu")
    assert "job 4242 · node17 · gpu   Tesla P4" in title(state, 120)
    state.job = BatchJob(job_id="4242", node="node17", partition="gpu", ends_at=time.time() + 7530, source="squeue")
    assert "job 4242 · node17 · gpu · 2 h 05 min left   Tesla P4" in title(state, 140)
    narrow = title(state, 80)
    assert "2 h 05 min left" in narrow
    assert len(narrow) <= 80
    assert "left" in title(state, 50)


def test_an_end_that_is_near_is_said_in_a_colour(state: State) -> None:
    def role(seconds: float) -> str:
        state.job = BatchJob(job_id="1", ends_at=time.time() + seconds)
        (line,) = TitlePane().body(state, 120, 1)
        return next(role for part, role in line if "left" in part)

    assert (role(3600), role(600)) == ("value", "warn")


@pytest.mark.parametrize(
    ("width", "words"), [(90, ("completed", "contended", "throttled")), (60, ("done", "shared", "slowed"))]
)
def test_disturbed_rows_say_so_in_their_status(state: State, width: int, words: tuple[str, ...]) -> None:
    for number, met in enumerate((ALONE, SHARED, HOT), 1):
        fold(state, finished(number, device=GPU, conditions=met))
    state.selected_run = 2
    heading, *lines = ResultsPane().body(state, width, 8)
    assert "J/sa" not in text(heading)
    for line, word, role in zip(lines, words, ("good", "warn", "warn"), strict=False):
        said, shown = line[-1] if line[-1][0].strip() else line[-2]
        assert said.strip() == word
        assert (shown == "warn") == (role == "warn")
    told = " ".join(" ".join(map(text, lines)).split())
    assert "run 2: Contended 40 % of the time: the card was shared with anna's process 4242" in told


def test_energy_has_a_column_where_some_row_knows_it(state: State) -> None:
    fold(state, finished(1, device=GPU, energy=3600.0, samples_per_s=8.0, train_runtime_s=64.0))
    fold(state, finished(2, device=GPU))
    heading, first, second, *_ = map(text, ResultsPane().body(state, 130, 8))
    assert "J/sample" in heading
    assert f"{3600 / 512:.2f}" in first
    at = heading.index("J/sample")
    assert second[at : at + 8].strip() == "–"
