"""Which rank takes which card: on a machine whose GPUs compute on the CPU, and of virtual ones."""

from __future__ import annotations

import os

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.devices.several import describe, difference, open_rank, rank_devices, resolved
from engine.process.machine import Machine as Host
from engine.telemetry.nvml import Nvml, door
from tests.engine.devices.test_cards import Asking, asking, folder, machine, program, uuid
from tests.engine.telemetry.nvml_machine import Machine

__all__ = ["asking", "folder", "machine", "program"]


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them."""
    monkeypatch.setattr(Host, "cores", lambda self: 4.0)


def ranks(device: str, gpus: int | None) -> str:
    return f"several.rank_devices(RunConfig(device={device!r}, gpus={gpus}), door())"


def test_ranks_take_the_first_cards_or_those_that_are_named(machine: Machine, asking: Asking) -> None:
    with asking() as ask:
        assert ask(ranks("auto", 2)) == ["cuda:0", "cuda:1"]
        assert ask(ranks("cuda", None)) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
        assert ask(ranks("cuda:3,0,2", 3)) == ["cuda:3", "cuda:0", "cuda:2"]
        assert ask(ranks("cuda:3,0,2", 2)) == ["cuda:3", "cuda:0"]
        assert ask(ranks("cuda:3,0", None)) == ["cuda:3", "cuda:0"]
        assert ask("several.resolved(RunConfig(gpus=None), door()).gpus") == 4
        assert ask(ranks("cuda:1,7", 2)) == "--device cuda:1,7: cuda:7 is not there: use cuda:0 to cuda:3."
        assert ask(ranks("cuda", 8)) == (
            "--gpus 8 needs a card for each rank, and CUDA shows 4 cards to this process: use --gpus 4 or all, or "
            "traintop forecast --gpus 8, which needs none."
        )
        assert ask("sorted(cards.contexts)") == []
    with asking(CUDA_VISIBLE_DEVICES="2,3") as ask:
        assert ask(ranks("cuda", None)) == ["cuda:0", "cuda:1"]
        described = f"several.describe({ranks('cuda', 2)}, RunConfig(gpus=2, vram_limit=1000), door())"
        assert ask(f"[(card.uuid, card.memory_total >> 20) for card in {described}]") == [
            [uuid(2), 1000],
            [uuid(3), 1000],
        ]
        assert "CUDA shows 2 cards of this machine's 4 to this process" in ask(ranks("cuda", 4))
        assert ask("several.open_rank('cuda:1', RunConfig(gpus=2), door()).info.numbers") == "cuda:1 = gpu 3"
        assert ask("sorted(cards.contexts)") == []


def test_free_ranks_take_the_emptiest_that_nobody_computes_on(machine: Machine, asking: Asking) -> None:
    machine.card(0, used=900)
    machine.card(1, used=4000)
    machine.process(1, os.getpid(), used=3900)
    machine.write()
    with asking() as ask:
        ask("setattr(free, 'INTERVAL_S', 0.0)")
        assert ask(ranks("free", 2)) == ["cuda:2", "cuda:3"]
        assert ask(ranks("free:3", 3)) == ["cuda:0", "cuda:2", "cuda:3"]
        assert ask(ranks("free", None)) == ["cuda:0", "cuda:2", "cuda:3"]
        refused = ask(ranks("free", 4))
        assert "3 of 4 cards are free, and --gpus 4 needs a card for each rank (cuda:1: your process" in refused
        assert "use --gpus 3, or --device free:shared" in refused
        assert ask(ranks("free:shared", 4)) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
        anyway = "several.rank_devices(RunConfig(device='free', gpus=4), door(), patient=False)"
        assert len(ask(anyway)) == 4  # for a forecast the emptiest must do


@pytest.mark.usefixtures("cores")
def test_a_virtual_rank_needs_a_core() -> None:
    nvml = Nvml()
    assert rank_devices(RunConfig(device="virtual:tesla-t4×2", gpus=2), nvml) == ("virtual:tesla-t4",) * 2
    assert rank_devices(RunConfig(device="virtual:tesla-t4x3", gpus=None), nvml) == ("virtual:tesla-t4",) * 3
    assert resolved(RunConfig(device="virtual:tesla-t4", gpus=None), nvml).gpus == 4
    with pytest.raises(ConfigError) as refused:
        rank_devices(RunConfig(device="virtual:tesla-t4", gpus=8), nvml)
    assert refused.value.knob == "gpus"
    assert refused.value.message == (
        "--gpus 8 on virtual GPUs can only be forecast here: each computes on a core of its own, and there are 4. "
        "Use --gpus 4, or traintop forecast --gpu tesla-t4 --gpus 8."
    )


def test_a_virtual_rank_has_the_memory_that_the_run_allows_each() -> None:
    config = RunConfig(device="virtual:tesla-p4×2", gpus=2, vram_limit=2000)
    names = rank_devices(config, door())
    opened = [open_rank(name, config, door()) for name in names]
    assert tuple(device.info for device in opened) == describe(names, config, door())
    assert [device.info.memory_total for device in opened] == [2000 * 2**20] * 2


def test_cards_that_differ_are_told() -> None:
    config = RunConfig(gpus=3)
    same = describe(("virtual:tesla-p4",) * 2, config, door())
    assert difference(same) is None
    assert difference((*same, *describe(("virtual:tesla-t4",), config, door()))) == (
        "The cards differ (2 × Tesla P4, Tesla T4): all wait for the slowest, and a batch must fit the smallest."
    )


def test_ranks_are_nobody_elses_and_one_on_a_second_card_is_told(machine: Machine, asking: Asking) -> None:
    mine, other, third = os.getpid(), os.getppid(), 1
    for index, pid in ((0, mine), (1, other), (0, other), (1, third)):
        machine.process(index, pid, used=500 + index)
    machine.write()
    with asking() as ask:
        ask("globals().update(records=__import__('engine.contract.records', fromlist=['']))")
        ask("globals().update(here=__import__('platform').node())")
        cards = f"several.describe({ranks('cuda', 2)}, RunConfig(gpus=2), door())"
        ask(f"globals().update(pair={cards})")
        ask("[watch.use(pair), watch.begin()]")
        found = "[[card.index, sorted(p.pid for p in others)] for card, others in watch.look()]"
        assert ask(found) == [[0, sorted((mine, other))], [1, sorted((other, third))]]
        rank = "records.RankInfo(rank={0}, device=pair[{0}], host=here, pid={1})"
        both = f"[{rank.format(0, mine)}, {rank.format(1, other)}]"
        assert ask(f"len(watch.started({both}))") == 2
        assert ask(found) == [[1, [third]]]
        ask("watch.look()")
        warned = ask("[event.text for event in told if hasattr(event, 'text')]")
        assert warned == [
            f"Rank 1 (process {other}) has 500 MiB on GPU 0 (Tesla P4) too, which is not its own: something made a "
            "CUDA context there, and that card's memory is less by it."
        ]
        assert ask("[told[-1].device.index, [p.pid for p in told[-1].processes]]") == [1, [third]]
        machine.processes.clear()
        machine.write()
        assert ask(found) == []
        assert ask("len(told[-1].processes)") == 0
        elsewhere = both.replace("host=here", "host='another'", 1)
        assert ask(f"[card.uuid is None for card in watch.started({elsewhere})]") == [True, False]
        ask(
            "globals().update(record=records.RunRecord(run_id=1, config=RunConfig(), "
            "outcome=records.Outcome.COMPLETED))"
        )
        met = ask("dataclasses.asdict(watch.end(record).conditions)")
        assert [(each["pid"], each["peak_memory"] >> 20) for each in met["neighbours"]] == [
            (other, 1001),  # before it was known as a rank, on both
            (third, 501),
            (mine, 500),
        ]
