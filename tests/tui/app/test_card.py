"""The card of the next run: which one is shown, who else is there, and choosing another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.cards import CardProcess
from engine.contract.choices import CardChoice
from engine.contract.config import RunConfig
from engine.contract.events import DeviceChosen, EngineReady, Neighbours, Surveyed
from engine.contract.records import DeviceInfo
from tests.tui.app.test_forecast import forecast
from tests.tui.fake_session import GPU, MIB, finished, sampled, started, training
from tests.tui.screen_text import SIZES, stage

P4 = replace(GPU, index=1, gpu_index=3, uuid="GPU-00000003-aaaa-bbbb-cccc-000000000000")
ANNA = CardProcess(pid=4242, kind="compute", memory_used=3000 * MIB, user="anna", command="python train.py")
BUSY = Neighbours(device=P4, processes=(ANNA,))


def ready_on(device: DeviceInfo, note: str | None = None) -> EngineReady:
    return EngineReady(device=device, torch_version="2.9.0", import_s=4.0, note=note)


def survey(config: RunConfig) -> Surveyed:
    other = replace(P4, index=0, gpu_index=2, uuid="GPU-00000002-aaaa-bbbb-cccc-000000000000")
    return Surveyed(
        config=config,
        choices=(
            CardChoice(
                device=other, used=3 * MIB, utilization=0.0, others=(), taken=False, forecast=forecast(4567)
            ),
            CardChoice(
                device=P4, used=3100 * MIB, utilization=61.0, others=(ANNA,), taken=True, forecast=forecast(7837)
            ),
        ),
        message="6 more of this machine's GPUs are not shown to this process.",
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
async def test_the_title_has_the_cards_numbers(size: tuple[int, int]) -> None:
    async with stage(size, (), ready_on(P4), engine_ready=False, config=RunConfig(device="cuda:1")) as s:
        assert "Tesla P4 · cuda:1 = gpu 3" in s.lines[0]
        await s.feed(DeviceChosen(device=replace(P4, index=0, gpu_index=0)))
        assert "Tesla P4 · cuda:0 " in s.lines[0]
        await s.feed(DeviceChosen(device=GPU))  # the only card of a machine needs no number
        assert "cuda" not in s.lines[0]


async def test_the_device_knob_changes_the_card_that_is_looked_at_and_a_run_keeps_its_own() -> None:
    async with stage() as s:
        assert s.session.looked_at == []
        s.app.state.editor.set_value("device", "cuda:1")
        s.app.tick()
        s.app.tick()
        assert s.session.looked_at == ["cuda:1"]
        await s.feed(started(), training(), DeviceChosen(device=P4))
        assert s.app.state.device == GPU
        assert s.app.state.ready == P4
        await s.feed(finished(), DeviceChosen(device=P4))
        assert s.app.state.device == P4


async def test_a_gpu_that_is_not_used_is_told_once() -> None:
    note = "The driver shows a GPU (Tesla P4), but this PyTorch is built without CUDA: for this driver run pip …"
    async with stage((200, 60), (), ready_on(GPU, note), engine_ready=False) as s:
        assert note[:60] in s.lines[-1]
        assert [line.text for line in s.app.state.log].count(note) == 1


async def test_before_a_card_is_shared_somebody_is_asked_and_once_for_the_same_neighbours() -> None:
    async with stage((120, 40), (), ready_on(P4), BUSY, sampled(None, None)) as s:
        assert "others" in s.text  # on the memory bar
        await s.press("r")
        assert "Tesla P4 (cuda:1 = gpu 3) is shared with anna's process 4242 (3000 MiB)." in s.dialog
        await s.press("w")
        assert s.session.started == []
        await s.press("r", "r")
        assert s.session.started == [RunConfig()]
        await s.feed(started(), finished())
        await s.press("r")
        assert len(s.session.started) == 2
        await s.feed(started(2), finished(2), replace(BUSY, processes=(replace(ANNA, pid=5),)))
        await s.press("r")
        assert len(s.session.started) == 2
        assert "process 5" in s.dialog


async def test_a_busy_card_is_left_for_a_free_one_or_for_one_from_the_list() -> None:
    async with stage((120, 40), (), ready_on(P4), BUSY) as s:
        await s.press("r", "f")
        assert [config.device for config in s.session.started] == ["free"]
        await s.feed(started(), finished(device=P4))
        await s.press("r")  # a free card is looked for: there is nobody to ask about
        assert len(s.session.started) == 2
    async with stage((120, 40), (), ready_on(P4), BUSY) as s:
        await s.press("r", "c")
        assert s.session.surveyed == [RunConfig()]


async def test_neighbours_of_another_card_ask_nothing() -> None:
    async with stage((120, 40), (), ready_on(GPU), BUSY) as s:
        await s.press("r")
        assert s.session.started == [RunConfig()]


async def test_nobody_is_asked_when_they_have_left() -> None:
    async with stage((120, 40), (), ready_on(P4), BUSY, replace(BUSY, processes=())) as s:
        await s.press("r")
        assert s.session.started == [RunConfig()]


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_says_who_is_where_and_what_fits(size: tuple[int, int]) -> None:
    async with stage(size, (), ready_on(P4)) as s:
        await s.feed(survey(RunConfig()))  # nobody asked
        assert len(s.app.screen_stack) == 1
        await s.press("D")
        await s.feed(survey(RunConfig()))
        shown = s.dialog
        assert "6 more of this machine's GPUs are not shown to this process." in shown
        assert "cuda:0 = gpu 2 Tesla P4 3 of 7611 MiB 0 % free fits, 40 % left" in shown
        assert "cuda:1 = gpu 3 Tesla P4 3100 of 7611 MiB 61 % taken out of memory" in shown
        assert "nobody computes there" in shown  # the cursor is on the one that is free and fits
        await s.press("down")
        assert "GPU-00000003-aaaa-bbbb-cccc-000000000000 shared with anna's process 4242 (3000 MiB)" in s.dialog
        await s.press("up", "enter")
        assert s.app.state.editor.config.device == "cuda:0"
        assert "the next run is on cuda:0" in s.lines[-1]
        await s.press("D")
        await s.feed(survey(s.app.state.editor.config))
        await s.press("f")
        assert s.app.state.editor.config.device == "free"


async def test_without_a_card_the_reason_is_said() -> None:
    async with stage() as s:
        await s.press("D")
        await s.feed(Surveyed(config=RunConfig(), choices=(), message="There is no card to choose."))
        assert "There is no card to choose." in s.lines[-1]


async def test_a_hostile_users_name_is_harmless() -> None:
    hostile = replace(ANNA, user="\x1b[31mred", command="\x07")
    async with stage((120, 40), (), ready_on(P4), replace(BUSY, processes=(hostile,))) as s:
        await s.press("r")
        assert "red's process 4242" in s.dialog
        assert "\x1b" not in s.text
