"""What a virtual GPU remembers of its windows: enough to stop tracing, and no more than fits."""

from __future__ import annotations

import torch

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.devices.virtual import VirtualDevice
from engine.tracing.live import MOST_ALIKE, RepeatingWindows, Signature, WindowLogs


def window(*lengths: int) -> Signature:
    return tuple((False, False, ("input_ids", (4, length))) for length in lengths)


def test_the_windows_met_last_are_remembered() -> None:
    known = RepeatingWindows(most=4)
    known.add(window(1, 2))
    known.add(window(3, 4))
    assert known.begins(window(1))
    assert known.begins(window(1, 2))
    assert not known.begins(window(2))
    known.add(window(5))  # the one met longest ago begins with 3
    assert not known.begins(window(3))
    assert known.begins(window(1))
    for length in range(1000):
        known.add(window(length, length + 1))
    assert len(known) == 4


def test_logs_are_kept_up_to_a_size() -> None:
    logs = WindowLogs(most=100)
    assert not logs.repeats(window(1), [1, -1] * 20, 0)
    assert logs.repeats(window(1), [1, -1] * 20, 0)
    assert not logs.repeats(window(1), [1, -2] * 20, 0)
    for length in range(2, 1000):
        assert not logs.repeats(window(length), [length, -length] * 20, 0)
        assert logs.held <= 100
    assert not logs.repeats(window(1), [1, -2] * 20, 0)  # it was forgotten
    assert logs.repeats(window(1), [1, -2] * 20, 0)
    logs.forget(window(1))
    logs.forget(window(1))
    assert not logs.repeats(window(7), [7] * 1000, 0)  # alone it may be longer than all
    assert logs.held == 1000
    assert logs.repeats(window(7), [7] * 1000, 0)


def test_equal_sizes_that_lie_elsewhere_are_traced_on() -> None:
    logs = WindowLogs()
    answers = [logs.repeats(window(1), [1, -1], places) for places in (1, 2, 3, 2)]
    assert answers == [False, False, False, True]  # 2 and 3 take turns from here
    assert not logs.repeats(window(1), [2, -2], 2)  # other sizes: all begins anew
    assert not logs.repeats(window(1), [1, -1], 2)
    wandering = [logs.repeats(window(2), [1, -1], places) for places in range(MOST_ALIKE + 1)]
    assert wandering == [False] * MOST_ALIKE + [True]


def test_many_shapes_take_no_more_memory() -> None:
    """Texts in their own lengths: hardly a window comes twice."""
    config = RunConfig(device="virtual:tesla-p4")
    device = VirtualDevice("tesla-p4", config)
    device._tracker._logs, device._tracker._repeating = WindowLogs(most=500), RepeatingWindows(most=16)
    weight = torch.zeros(8, requires_grad=True)
    seen: dict[int, list[bool]] = {}

    def update(length: int) -> None:
        device.enter(Phase.DATA)
        device.place({"input_ids": torch.zeros(1, length, dtype=torch.long)})
        seen.setdefault(length, []).append(device.is_tracing)
        device.enter(Phase.FORWARD)
        loss = (weight * torch.ones(length, 1)).sum()
        device.enter(Phase.BACKWARD)
        loss.backward()
        device.enter(Phase.OPTIMIZER)
        weight.grad = None
        device.enter(Phase.DATA)

    with device.tracking():
        device.create_context()
        for length in [*range(1, 400), *[7] * 6]:
            update(length)
        tracker = device._tracker
        assert tracker._logs.held <= 500
        assert len(tracker._repeating) <= 16
        assert seen[7][-1] is False  # what repeats is still found
        assert all(all(traced) for length, traced in seen.items() if length != 7)
