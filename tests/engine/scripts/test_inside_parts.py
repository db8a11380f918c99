"""The parts of what looks on, without a script: the wire, sizes of batches, and times of a device that is not there."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.engine.scripts.watched import INSIDE


@pytest.fixture(scope="module")
def inside() -> Iterator[Any]:
    """Its modules by name, loaded as the script's process loads them."""
    name, folder = "_traintop_inside", INSIDE / "_traintop_inside"
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])

    class Modules:
        def __getattr__(self, part: str) -> ModuleType:
            return import_module(f"{name}.{part}")

    yield Modules()
    for each in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[each]


# the wire ---------------------------------------------------------------------------------------------------------


def test_a_reader_that_does_not_read_is_not_waited_for(inside: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wire"))
        listener.listen()
        wire = inside.wire.Wire(str(tmp_path / "wire"))
        for n in range(5_000):
            wire.tell("updates", [f'{{"update": {n}}}'], filling="x" * 1_000)
        assert wire.on
        connection, _ = listener.accept()
        with connection:
            heard = _all(connection, wire)
            wire.tell("end")  # there is room again
            [end] = map(json.loads, _all(connection, wire).splitlines())
        hello, *told = map(json.loads, heard.splitlines())
        assert hello["kind"] == "hello"
        assert [each["rows"][0]["update"] for each in told] == list(range(len(told)))
        assert end["kind"] == "end"
        assert 0 < len(told) == 5_000 - end["dropped"]


def _all(connection: socket.socket, wire: Any) -> bytes:
    """What is in the connection, and what waits to be."""
    connection.setblocking(False)
    heard = b""
    while True:
        wire.push()
        try:
            heard += connection.recv(1 << 20)
        except BlockingIOError:
            return heard


def test_a_reader_that_is_gone_ends_it_without_a_word(inside: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wire"))
        listener.listen()
        wire = inside.wire.Wire(str(tmp_path / "wire"))
        wire.greet()
        listener.accept()[0].close()
    for _ in range(3):
        wire.tell("log", figures={})
    assert not wire.on
    wire.close()


def test_a_listener_that_accepts_nobody_is_not_waited_for(inside: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wire"))
        listener.listen(0)
        listener.settimeout(10)
        wires = [inside.wire.Wire(str(tmp_path / "wire")) for _ in range(8)]
        for wire in wires:
            wire.greet()  # the queue of a listener is full at some time
        assert all(wire.on for wire in wires)
        heard = []
        for wire in wires:
            wire.tell("log", figures={})
        while len(heard) < 8:
            connection, _ = listener.accept()
            connection.settimeout(10)
            for wire in wires:
                wire.push()
            with connection, connection.makefile() as lines:
                heard.append([json.loads(next(lines))["kind"] for _ in range(2)])
        assert heard == [["hello", "log"]] * 8


# batches ----------------------------------------------------------------------------------------------------------

IDS = torch.zeros(4, 16, dtype=torch.long)
IMAGE = torch.zeros(3, 8, 8)


class Odd:
    """A batch of the script's own kind."""

    x = IDS

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (IDS, (4, 64)),
        (IDS.float(), (4, None)),
        ([IDS, IDS], (4, 64)),
        ([torch.zeros(4, 3, 8, 8), torch.zeros(4)], (4, None)),
        ({"input_ids": IDS, "pixel_values": torch.zeros(900, 20)}, (4, 64)),
        ({"x": {"a": torch.zeros(4, 2), "b": (torch.zeros(4), torch.tensor(1.0))}, "names": ["a"] * 4}, (4, None)),
        (((IMAGE, torch.zeros(3, 4, 9)), ({"boxes": torch.zeros(5, 4)}, {"boxes": torch.zeros(1, 4)})), (2, None)),
        ([torch.zeros(7, 4), torch.zeros(4)], (None, None)),  # time first
        (torch.tensor(1.0), (None, None)),
        ({"anchor_input_ids": IDS, "anchor_mask": IDS, "positive_input_ids": IDS[:, :9]}, (4, 100)),
        ({"a_input_ids": IDS, "b_input_ids": IDS[:2]}, (None, None)),
        (["a", "b"], (None, None)),
        pytest.param(Odd(), (None, None), id="odd"),
        (None, (None, None)),
        (iter([IDS]), (None, None)),
    ],
)
def test_a_batch_says_its_size_or_it_is_not_known(inside: Any, batch: object, size: tuple[int | None, ...]) -> None:
    assert inside.batches.size_of(torch, batch) == size


# a device ---------------------------------------------------------------------------------------------------------


class Device:
    """A CUDA that runs behind the host, and that nobody may wait for."""

    def __init__(self) -> None:
        self.now, self.done = 0.0, -1.0
        self.OutOfMemoryError = torch.OutOfMemoryError

    def is_initialized(self) -> bool:
        return True

    def is_current_stream_capturing(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def current_stream(self, device: object = None) -> None:
        return None

    def Event(self, enable_timing: bool = False) -> Event:  # noqa: N802 (its name in torch)
        return Event(self)

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"torch.cuda.{name} was called")


class Event:
    def __init__(self, device: Device) -> None:
        self._device, self.at = device, 0.0

    def record(self, stream: object = None) -> None:
        self.at = self._device.now

    def query(self) -> bool:
        return self.at <= self._device.done

    def elapsed_time(self, other: Event) -> float:
        assert self.query()
        assert other.query()
        return (other.at - self.at) * 1e3


def test_times_are_the_devices_and_are_read_when_it_has_passed_them(inside: Any) -> None:
    device = Device()
    clock = inside.clock.Clock(SimpleNamespace(cuda=device))
    spans = []
    for _ in range(2):
        for phase, seconds in (("forward", 1.0), ("backward", 2.0), ("optimizer", 0.5)):
            clock.enter(phase)
            device.now += seconds
        spans.append(clock.cut())
        device.now += 0.25
    assert not spans[0].is_passed
    device.done = 3.5
    assert [span.is_passed for span in spans] == [True, False]
    shares, seconds = spans[0].read()
    assert (shares, seconds) == ({"forward": 1.0, "backward": 2.0, "optimizer": 0.5}, 3.5)
    device.done = 100.0
    assert spans[1].read()[0] == {"other": 0.25, "forward": 1.0, "backward": 2.0, "optimizer": 0.5}


def test_time_that_was_stopped_counts_no_more_and_time_before_it_does(
    inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    monkeypatch.setattr(inside.clock, "perf_counter", lambda: device.now)
    clock = inside.clock.Clock(SimpleNamespace(cuda=device))

    def after(*phases: tuple[str, float]) -> float:
        for phase, seconds in phases:
            clock.enter(phase)
            device.now += seconds
        t: float = clock.cut().t
        return t

    assert after(("forward", 1.0), ("optimizer", 2.0)) == 3.0
    device.now += 0.5
    clock.enter("forward")
    device.now += 0.25
    clock.pause()  # a cell that has failed; the next comes an hour later
    assert clock.phase == "forward"
    device.now += 3600.0
    assert after(("forward", 1.0), ("optimizer", 1.0)) == 5.0
    clock.stop()  # a second training
    assert clock.phase == "other"
    device.now += 60.0
    assert after(("data", 1.0), ("forward", 1.0)) == 7.0


def test_a_notebook_says_where_its_cells_begin(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    looking = SimpleNamespace(safely=lambda look: look, pause=lambda: asked.append("pause"))
    inside.hooks._wait_for_cells(looking)  # no IPython, or no shell
    hooks: dict[str, Any] = {}
    shell = SimpleNamespace(events=SimpleNamespace(register=hooks.__setitem__))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    inside.hooks._wait_for_cells(looking)
    assert not asked
    hooks["pre_run_cell"]("info")
    assert asked == ["pause"]


def test_a_number_on_a_device_is_copied_and_read_when_it_is_there(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()

    class Loss(torch.Tensor):
        """One on the device."""

        is_cpu, is_cuda, device = False, True, "cuda:0"

        def item(self) -> float:
            raise AssertionError("item() waits")

    empty = torch.empty
    monkeypatch.setattr(torch, "cuda", device)
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory, **kwargs: empty(*size, **kwargs))
    values = inside.values.Values(torch)
    monkeypatch.setattr(values, "_plain", Loss)
    device.now = 1.0
    coming = values._copied(torch.tensor(2.5).as_subclass(Loss).detach())
    assert inside.values.read(coming) is None
    device.done = 1.0
    assert inside.values.read(coming) == 2.5
