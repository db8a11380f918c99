"""The forecast on the screen: it follows the keys, warns before a run, and helps after an out-of-memory."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted, Proposed
from engine.contract.forecast_types import Forecast, Proposal
from engine.contract.records import Outcome, Phase
from tests.tui.fake_session import MIB, finished, started, training, update
from tests.tui.screen_text import SIZES, Stage, stage


def forecast(used: int = 7099, **values: Any) -> Forecast:
    """Of bert-base at batch 8 on a P4, or with another peak in MiB."""
    fits = used <= 7611
    parts = {"context": 415, "libraries": 130, "weights": 418, "gradients": 418, "optimizer": 836, "temporaries": 0}
    breakdown = {**parts, "activations": used - sum(parts.values()) - 100, "cached": 100}
    known: dict[str, Any] = {
        "gpu": "Tesla P4",
        "total": 7611 * MIB,
        "limit": 7611 * MIB,
        "verdict": "fits" if fits else "out_of_memory",
        "near_limit": abs(used - 7611) < 380,
        "peak_used": used * MIB,
        "peak_reserved": (used - 529) * MIB,
        "peak_allocated": (used - 629) * MIB,
        "loaded_used": 887 * MIB,
        "breakdown": {name: size * MIB for name, size in breakdown.items()},
        "failing_phase": None if fits else "backward",
        "failing_request": None if fits else 18 * MIB,
        "failing_segment": None if fits else 20 * MIB,
        "failing_free": None if fits else 14 * MIB,
        "timeline": (),
        "samples_per_s": 7.9,
        "flops_per_sample": 10**12,
        "model_flops_per_sample": 10**12,
        "n_parameters": 109_483_778,
        "forecast_s": 0.05,
        "notes": (),
    }
    return Forecast(**{**known, **values})


async def test_every_turn_of_a_knob_is_asked_about() -> None:
    async with stage() as s:
        await s.press("b", "c")
        s.app.tick()
        assert s.session.asked[-1] == RunConfig(batch_size=16, gradient_checkpointing="on")


async def test_the_answer_stands_beside_the_knobs_and_goes_stale() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast()))
        text = "\n".join(s.lines)
        assert "7099 MiB 93 % fits" in text
        assert "card ~7.90 samples/s" in text
        await s.press("b")
        assert _pane(s) == [" forecasting …", "", "", ""]
        assert "7099" not in s.text
        assert "7.90" not in s.text
        await s.feed(Forecasted(config=RunConfig(batch_size=16), forecast=forecast(7837)))
        assert _pane(s)[0].startswith(" 7837 MiB 103 % too much")


async def test_where_the_context_was_not_measured_a_range_is_shown() -> None:
    async with stage((120, 40)) as s:
        unsure = forecast(used_range=(6950 * MIB, 7180 * MIB))
        await s.feed(Forecasted(config=RunConfig(), forecast=unsure))
        assert _pane(s)[3] == " 6950–7180 MiB, by context"
        assert "card ~7.90 samples/s" in s.text


@pytest.mark.parametrize("size", SIZES)
async def test_a_loaded_preset_takes_the_figures_of_other_knobs_away_at_once(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast()))
        assert "7099" in s.text
        await s.press("K", "down", "enter")
        assert s.app.state.editor.config != RunConfig()
        assert _pane(s)[0] == " forecasting …"
        assert "7099" not in s.text


async def test_what_fits_comes_too_late_for_knobs_that_were_turned_meanwhile() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast(7837)))
        await s.press("r", "h")
        await s.press("b")
        smaller = Proposal(label="batch 4", config=RunConfig(batch_size=4), forecast=forecast(4613))
        await s.feed(Proposed(run_id=0, proposals=(smaller,)))
        assert "these fit" not in s.text
        assert "the knobs were turned meanwhile" in s.lines[-1]


def _pane(s: Stage) -> list[str]:
    """What the forecast's pane says."""
    lines = s.lines
    top = next(row for row, line in enumerate(lines) if "┌ Forecast" in line)
    bottom = next(row for row in range(top, len(lines)) if lines[row].startswith("└"))
    return [line[1 : line.index("│", 1)].rstrip() for line in lines[top + 1 : bottom]]


async def test_no_forecast_says_why() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=None, message="no forecast for the CPU"))
        assert "no forecast for the CPU" in "\n".join(s.lines)


@pytest.mark.parametrize("size", SIZES)
async def test_a_refusal_that_is_too_long_keeps_its_way_out(size: tuple[int, int]) -> None:
    why = "--weights bf16 needs compute capability 8.0 or newer; Tesla P4 has 6.1: use --weights fp16 or fp32."
    async with stage(size) as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=None, message=why))
        said = " ".join(" ".join(_pane(s)).split())
        assert said.count("--weights bf16 needs") == 1
        assert "use --weights fp16 or fp32." in said


async def test_a_run_that_will_not_fit_asks_once() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast(7837)))
        assert "out of memory" in "\n".join(s.lines)
        await s.press("r")
        assert s.session.started == []
        await s.press("w")
        assert s.session.started == []
        await s.press("r", "r")
        assert s.session.started == [RunConfig()]


@pytest.mark.parametrize("size", SIZES)
async def test_the_question_shows_all_its_choices(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast(7837)))
        await s.press("r")
        first = s.lines.index(s.line("r  run it anyway"))
        shown = [line.partition("│ ")[2] for line in s.lines[first : first + 3]]
        for line, words in zip(
            s.lines[first : first + 3],
            (
                "r  run it anyway, and see where it dies; the next run works",
                "h  see what would fit instead",
                "w  neither",
            ),
            strict=True,
        ):
            assert words in line, shown


async def test_a_run_that_fits_is_not_asked_about() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast()))
        await s.press("r")
        assert s.session.started == [RunConfig()]


async def test_what_would_fit_instead_of_the_next_run() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast(7837)))
        await s.press("r", "h")
        (asked,) = s.session.proposed
        assert asked.config == RunConfig()
        assert asked.failed_phase is Phase.BACKWARD
        assert s.session.started == []


async def test_a_proposal_after_an_out_of_memory_sets_the_knobs() -> None:
    smaller = RunConfig(batch_size=4, gradient_accumulation_steps=2)
    async with stage() as s:
        await s.press("h")
        assert "no run was out of memory" in s.lines[-1]
        dead = finished(outcome=Outcome.OUT_OF_MEMORY, failed_phase=Phase.BACKWARD)
        await s.feed(started(), training(), dead)
        await s.press("h")
        assert [record.run_id for record in s.session.proposed] == [1]
        proposal = Proposal(label="batch 4 × accumulation 2", config=smaller, forecast=forecast(4613))
        tight = Proposal(label="batch 7", config=RunConfig(batch_size=7), forecast=forecast(7500))
        await s.feed(Proposed(run_id=1, proposals=(proposal, tight)))
        assert "looking for" not in s.lines[-1]
        assert "the card's samples/s" in s.dialog
        assert "batch 4 × accumulation 2   4613 MiB  61 %  ~7.90/s" in s.text
        assert "batch 7                    7500 MiB  99 %  ~7.90/s  near limit" in s.text
        await s.press("enter")
        assert s.app.state.editor.config == smaller


async def test_a_proposal_that_comes_late_opens_over_no_other_dialog() -> None:
    proposal = Proposal(label="batch 4", config=RunConfig(batch_size=4), forecast=forecast(4613))
    answer = Proposed(run_id=1, proposals=(proposal,))
    async with stage() as s:
        await s.feed(started(), training(), finished(outcome=Outcome.OUT_OF_MEMORY, failed_phase=Phase.BACKWARD))
        await s.press("h", "question_mark")
        helping = s.app.screen
        await s.feed(answer)
        assert s.app.screen is helping
        await s.press("escape")
        assert "what fits instead is known: h shows it" in s.lines[-1]
        await s.press("h")
        await s.feed(answer)
        assert "batch 4 4613 MiB" in s.dialog


async def test_the_forecast_is_a_ghost_mark_on_the_memory_bar() -> None:
    async with stage() as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast(4000)))
        await s.feed(started(), training(), update(1))
        assert s.app.state.expected == 4000 * MIB
        assert "◇" in "\n".join(s.lines)
