"""The last line: in every state the keys that matter most, to the character at 80 columns, and all of them wider."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.contract.events import EngineFailed, Event, PlanProgress, PlanStarted
from engine.contract.records import Outcome
from tests.tui.fake_session import finished, record, started, training, update
from tests.tui.screen_text import stage

PLAN = (
    PlanStarted(plan_id=1, name="batch-size", title="Batch size", total=5),
    PlanProgress(plan_id=1, position=2, total=5, label="batch size 2"),
)
RUN = (started(8), training(8), update(1, 8))
LAST = " ? help  ^p palette  q quit"

CASES: dict[str, tuple[Sequence[Event], Sequence[str], str]] = {
    "ready, no runs": ((), (), " r run  p plans  e explain  Enter type  / find"),
    "ready": ((finished(8),), (), " r run  p plans  e explain  x export  Enter type"),
    "ready, on a group": ((finished(8),), ("end",), " r run  p plans  e explain  x export  Enter open"),
    "training": (RUN, (), " s stop  p plans  e explain  x export  Enter type"),
    "plan": ((*PLAN, *RUN), (), " s stop  S pause  n next run  e explain  x export"),
    "out of memory": (
        (*RUN, finished(8, Outcome.OUT_OF_MEMORY)),
        (),
        " r run  h what fits  p plans  e explain  x export",
    ),
    "ready, results": ((finished(8),), ("tab",), " r run  space pin  / filter  x export  e explain"),
    "training, results": (RUN, ("tab",), " s stop  space pin  / filter  x export  e explain"),
    "plan, results": ((*PLAN, *RUN), ("tab",), " s stop  S pause  n next run  space pin  / filter"),
    "zoomed": (RUN, ("z",), " Esc zoom out  s stop  p plans  e explain  x export"),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_keys_of_a_state_at_80_columns(name: str) -> None:
    events, keys, wanted = CASES[name]
    async with stage((80, 24), [], *events) as s:
        await s.press(*keys)
        assert s.lines[-1].rstrip() == f"{wanted} {LAST}"


@pytest.mark.parametrize("size", [(120, 40), (200, 60)])
async def test_wider_terminals_have_more_of_them(size: tuple[int, int]) -> None:
    async with stage(size, [record(1)]) as s:
        assert s.lines[-1].startswith(" r run  p plans  e explain  x export  Enter type  / find  space pin  z zoom")
        await s.press("b")
        assert s.lines[-1].startswith(" r run  p plans  e explain  x export  Enter type  u undo  / find  space pin")
        await s.press("tab")
        more = " r run  space pin  / filter  x export  e explain  Enter details  t mark  < > sort  N note"
        assert s.lines[-1].startswith(more)
        assert s.lines[-1].rstrip().endswith(LAST)


async def test_before_the_engine_is_there_and_when_it_is_not_to_be_had() -> None:
    async with stage((80, 24), engine_ready=False) as s:
        assert s.lines[-1].rstrip() == f" r run  e explain  Enter type  / find  z zoom {LAST}"
        await s.feed(EngineFailed(message="PyTorch is not installed: pip install torch."))
        await s.press("escape")
        assert s.lines[-1].rstrip() == f" e explain  Enter type  / find  z zoom  J answer {LAST}"
