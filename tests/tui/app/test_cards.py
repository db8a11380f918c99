"""The cards over the app's panes, and what the panes say of a GPU that does not answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.cards import Card, CardProcess, Cards
from engine.contract.records import GpuSample, Memory
from engine.session import cards as watching
from tests.tui.fake_session import sampled, started, training
from tests.tui.screen_text import SIZES, stage

READING = Cards(
    at=1000.0,
    driver="535.129.03",
    cards=(
        Card(index=0, uuid="GPU-0", name="Tesla P4", processes=(CardProcess(pid=4242, kind="compute", user="bo"),)),
        Card(index=1, uuid="GPU-1", lost=True),
    ),
)


class _Reader:
    def read(self) -> Cards:
        return READING


@pytest.mark.parametrize("size", SIZES)
async def test_p_shows_the_cards_and_their_keys_start_no_run(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "new_reader", _Reader)
    async with stage(size) as s:
        await s.press("P")
        await s.until("2 cards")
        assert "1 lost" in s.text
        assert "4242" in s.text
        await s.press("r", "b", "down", "k")
        assert s.session.started == []
        assert "only your own can be ended" in s.text
        await s.press("P")
        assert "2 cards" not in s.text
        assert "Next run" in s.text


async def test_a_lost_gpu_stands_on_the_panes_and_the_hosts_figures_beside_it() -> None:
    lost = replace(sampled(t=6.0), gpu=GpuSample(lost=True), memory=Memory())
    async with stage((120, 40), (), started(), training(), sampled(t=5.0)) as s:
        assert "GPU lost" not in s.text
        await s.feed(lost)
        assert "GPU lost" in s.line("traintop")
        assert "GPU lost: it does not answer" in s.text
        assert "cpu 55 %" in s.text
        assert "gpu 97" not in s.text
