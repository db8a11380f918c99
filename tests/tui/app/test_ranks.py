"""Several GPUs on the screen: bars, cards, who waits, the rank that is chosen, its log, its end."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.events import Event, RanksStarted
from engine.contract.records import Outcome
from tests.tui.fake_ranks import (
    beat,
    begun,
    config_of,
    forecast_of,
    out_of_memory,
    ranks_started,
    sampled_of,
    update_of,
)
from tests.tui.fake_session import MIB, record, started, training, update
from tests.tui.screen_text import SIZES, stage
from tui.screens.details import DetailsScreen


def in_training(n: int, *, virtual: bool = False) -> tuple[Event, ...]:
    done = (update_of(n, number) for number in range(1, 11))
    return (*begun(n, virtual=virtual), *done, sampled_of(n, t=10.0, virtual=virtual))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [2, 4, 8])
async def test_every_rank_or_what_is_left_out_is_told(n: int, size: tuple[int, int]) -> None:
    async with stage(size, (), *in_training(n), config=config_of(n)) as s:
        shown = [rank for rank in range(n) if any(f"│ r{rank} " in line and "▲" in line for line in s.lines)]
        left = n - len(shown)
        assert shown == list(range(len(shown)))
        assert len(shown) >= min(n, 5)
        if left:
            assert f"{left} more, none above {7040 - 310 * len(shown)} MiB" in s.text
        assert "7040 ▲7040" in s.line("│ r0 ")


async def test_the_title_says_how_many_cards_and_the_effective_batch() -> None:
    async with stage((200, 60), (), *in_training(2, virtual=True), config=config_of(2, virtual=True)) as s:
        assert "2 × Tesla P4 · virtual · 7611 MiB" in s.lines[0]
        assert "batch 8 · effective 16" in s.lines[0]


async def test_the_next_run_is_on_as_many_as_the_knobs_say() -> None:
    async with stage((120, 40), config=config_of(4)) as s:
        assert "4 × Tesla P4 · 7611 MiB" in s.lines[0]
        assert "─ effective batch 32 ─" in s.text
        s.app.state.editor.set_value("gpus", None)
        await s.feed()
        assert "all × Tesla P4" in s.lines[0]
        assert "effective batch 8 × GPUs" in s.text


async def test_who_waits_for_whom() -> None:
    async with stage((120, 40), (), *in_training(4), config=config_of(4)) as s:
        assert "others wait for rank 1" in s.text
        assert "waiting    14 %" in s.text
    async with stage((80, 24), (), *in_training(2), config=config_of(2)) as s:
        assert s.line(" time ").rstrip().endswith("wait for r1")


async def test_each_card_has_its_figures() -> None:
    async with stage((200, 60), (), *in_training(8), config=config_of(8)) as s:
        assert "r1  94 %  mem  60   71 W  62 °C" in s.text
        assert "r7  74 %  mem  54   65 W  68 °C" in s.text


async def test_a_card_that_is_lost_is_told() -> None:
    reading = sampled_of(2, t=11.0)
    lost = replace(reading, gpus=(reading.gpus[0], replace(reading.gpus[0], lost=True)))  # type: ignore[type-var]
    async with stage((120, 40), (), *in_training(2), lost, config=config_of(2)) as s:
        assert "r1 lost" in s.text


async def test_brackets_choose_a_rank_and_come_round_to_all_of_them() -> None:
    async with stage((120, 40), (), *in_training(2), config=config_of(2)) as s:
        await s.press("right_square_bracket")
        assert "│▸r0 " in s.text
        assert "rank 0: Tesla P4 cuda:0, process 4711" in s.lines[-1]
        await s.press("right_square_bracket")
        assert "r1 · used 6730" in s.text
        assert "waiting     2 %" in s.text
        await s.press("right_square_bracket")
        assert "▸r" not in s.text
        assert s.lines[-1].rstrip().endswith("all ranks")
        await s.press("left_square_bracket")
        assert "│▸r1 " in s.text


async def test_the_chosen_rank_is_shown_though_others_are_fuller() -> None:
    async with stage((80, 24), (), *in_training(8), config=config_of(8)) as s:
        await s.press("left_square_bracket")
        assert "│▸r7 " in s.text
        assert "3 more, none above 5800 MiB" in s.text


async def test_with_one_gpu_there_is_nothing_to_choose() -> None:
    async with stage((120, 40), (), started(), training(), update()) as s:
        await s.press("right_square_bracket")
        assert "no run on several GPUs is shown" in s.lines[-1]
        await s.press("i")
        assert "no run on several GPUs is shown" in s.lines[-1]
        assert "[ ]" not in s.lines[-1]


async def test_the_details_of_ranks() -> None:
    events = (forecast_of(2), *in_training(2), beat(1, 11, 3.0))
    async with stage((120, 40), (), *events, config=config_of(2)) as s:
        await s.press("i")
        assert isinstance(s.app.screen, DetailsScreen)
        assert "Run 1: 2 × ddp, effective batch 16" in s.dialog
        assert "rank 1 Tesla P4 cuda:1 process 4712 on lab-gpu-02" in s.dialog
        assert "peak 6730 of 7611 forecast 6789" in s.dialog
        assert "forward of update 11 for 3 s" in s.dialog
        await s.press("escape", "right_square_bracket", "i")
        assert "rank 0" in s.dialog
        assert "rank 1" not in s.dialog


def ranks_here(folder: Path) -> RanksStarted:
    begin = ranks_started(2, folder=str(folder))
    return replace(begin, ranks=tuple(replace(info, host=socket.gethostname()) for info in begin.ranks))


async def test_the_log_of_the_chosen_rank(tmp_path: Path) -> None:
    (tmp_path / "run-1-rank-1.log").write_text("NCCL \x1b[31mWARN\x1b[0m here\n", encoding="utf-8")
    begin, _, *rest = in_training(2)
    async with stage((120, 40), (), begin, ranks_here(tmp_path), *rest, config=config_of(2)) as s:
        await s.press("l", "left_square_bracket")
        await s.until("NCCL WARN here")
        assert "┌ Log of rank 1 ─" in s.text
        (tmp_path / "run-1-rank-0.log").touch()
        await s.press("left_square_bracket")
        await s.until("rank 0 has printed nothing yet")
        await s.press("left_square_bracket")
        assert "┌ Log ─" in s.text
        assert "2 ranks on 2 × Tesla P4" in s.text


async def test_a_log_on_another_machine_is_named_and_not_looked_for() -> None:
    async with stage((120, 40), (), *in_training(2), config=config_of(2)) as s:
        await s.press("l", "right_square_bracket")
        s.app.tick()
        await s.feed()
        assert "its log is on lab-gpu-02: " in s.text


async def test_a_rank_out_of_memory_is_named() -> None:
    async with stage((120, 40), (), *in_training(2), out_of_memory(2), config=config_of(2)) as s:
        assert "■ run 1 out of memory on rank 1" in s.lines[0]
        assert "out of memory on r1" in s.line("VRAM MiB")
        assert "run 1: rank 1 (Tesla P4): Out of memory in backward" in s.text
        assert "▲6730" in s.line("│ r1 ")


async def test_a_rank_that_stands_still_is_told_before_the_run_ends() -> None:
    async with stage((200, 60), (), *in_training(2), config=config_of(2)) as s:
        await s.feed(beat(0, 11, 69.0), beat(1, 11, 70.0))
        assert "all ranks have been in forward of update 11 for 70 s" in s.text
        await s.feed(update_of(2, 11))
        assert "Run 1 goes on" in s.text


async def test_results_tell_gpus_the_fullest_and_how_much_of_their_speed_is_had() -> None:
    peaks = (6900 * MIB, 7069 * MIB)
    two = record(2, config=config_of(2), peak_used_by_rank=peaks, steady_samples_per_s=14.0, samples_per_s=13.9)
    one = record(1, config=config_of(1))
    async with stage((120, 40), (one, two)) as s:
        assert "GPUs" in s.line(" #    model")
        assert "7069 r1" in s.line("│ 2 ")
        assert "91 %" in s.line("│ 2 ")
        await s.press("tab", "end", "enter")
        assert "2 × ddp effective batch 16" in s.dialog
        assert "scaling 91 %" in s.dialog
        assert "r0 6900 r1 7069" in s.dialog


async def test_without_several_gpus_nothing_is_said_of_them() -> None:
    async with stage((120, 40), (record(1), record(2))) as s:
        for word in ("GPUs", "scaling", "effective", "waiting", "[ ] rank"):
            assert word not in s.text


async def test_a_number_finds_the_runs_on_so_many_gpus_and_no_others() -> None:
    async with stage((120, 40), (record(11), record(12, config=config_of(6)))) as s:
        s.app.state.table.query = "6"
        assert [row.run_id for row in s.app.state.rows] == [12]
        s.app.state.table.query = "gpus=1"
        assert [row.run_id for row in s.app.state.rows] == [11]


@pytest.mark.parametrize(
    ("speedup", "wait_share", "words"),
    [
        (1.72, 0.12, "2 × ddp: 1.7 × faster, 12 % waiting"),
        (0.8, 0.6, "2 × ddp: 1.2 × slower, 60 % waiting"),
        (None, None, "2 × ddp "),
    ],
)
async def test_the_forecast_of_several_gpus(speedup: float | None, wait_share: float | None, words: str) -> None:
    answer = forecast_of(2)
    assert answer.forecast is not None
    made = replace(answer.forecast, speedup=speedup, wait_share=wait_share)
    async with stage((200, 60), (), replace(answer, forecast=made), config=config_of(2)) as s:
        assert "7099 MiB/GPU 93 % fits" in s.text
        assert words in s.text


async def test_in_a_narrow_pane_the_forecast_of_several_gpus_is_shorter() -> None:
    async with stage((120, 40), (), forecast_of(2), config=config_of(2)) as s:
        assert "2 × ddp: 1.7 ×, 12 % wait " in s.text
    async with stage((80, 24), (), forecast_of(2), config=config_of(2)) as s:
        assert "2×ddp: 1.7 ×, 12 % wait" in s.text
        assert "samples/s" in s.line("│ card ")


@pytest.mark.parametrize("size", SIZES)
async def test_that_several_gpus_are_slower_is_never_left_out(size: tuple[int, int]) -> None:
    answer = forecast_of(2)
    assert answer.forecast is not None
    made = replace(answer.forecast, speedup=0.5, wait_share=0.6)
    async with stage(size, (), replace(answer, forecast=made), config=config_of(2)) as s:
        assert "2.0 × slower" in s.text


async def test_a_run_that_waits_for_nothing_but_its_turn_is_not_loading() -> None:
    async with stage((80, 24), config=config_of(2)) as s:
        assert s.app.state.loading is None
        await s.press("r")
        assert "the run is about to start" in s.lines[0]


async def test_ranks_that_die_before_an_update_show_how_full_they_were() -> None:
    end = out_of_memory(2)
    end = replace(end, record=replace(end.record, peak_used_by_rank=(899 * MIB, 880 * MIB)))
    async with stage((120, 40), (), *begun(2), end, config=config_of(2)) as s:
        assert "▲899" in s.line("│ r0 ")
        assert "▲880" in s.line("│ r1 ")
        assert "peak ▲ 899" in s.text


@pytest.mark.parametrize("n", [1, 2])
async def test_under_what_says_that_a_run_failed_it_has_ended(n: int) -> None:
    end = out_of_memory(n)
    failed = replace(end.record, outcome=Outcome.FAILED, message="Rank 1 (Tesla P4) was killed by SIGKILL.")
    async with stage((120, 40), (), *in_training(n), config=config_of(n)) as s:
        await s.feed(replace(end, record=failed))
        assert "Run 1 failed" in s.dialog
        assert "running" not in s.text
