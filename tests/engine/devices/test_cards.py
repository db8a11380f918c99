"""Which card a name means, which one is free, and what a card with neighbours says: through NVML's own ABI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.contract.device_name import read_device
from engine.devices import unusable, visible
from tests.engine.telemetry.nvml_machine import Machine, build, why_no_library

_ROOT = Path(__file__).parents[3]
_PROGRAM = """
import dataclasses, json, os, sys
from tests.engine.devices.cuda_machine import pretend
cards = pretend()
from engine.contract.config import ConfigError, RunConfig
from engine.devices import free, open, several, visible
from engine.contract.device_name import read_device
from engine.telemetry.nvml import door
from engine.session.outside import OutsideMemory
from engine.session import forecasts
from engine.session.neighbours import NeighbourWatch
waited, told = [], []
def begin(environment):
    global watch
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        os.environ.pop(name, None)
    os.environ |= environment
    cards._shown = None
    for each in (waited, told, cards.contexts):
        each.clear()
    watch = NeighbourWatch(door(), told.append)
def opened(name, patient=True):
    usual, free.INTERVAL_S = free.INTERVAL_S, 0.0
    try:
        return open.open_device(RunConfig(device=name), door(), patient=patient)
    finally:
        free.INTERVAL_S = usual
for line in sys.stdin:
    answer = None
    try:
        answer = eval(line)
    except ConfigError as error:
        answer = error.message
    print(json.dumps(answer, default=lambda of: dataclasses.asdict(of) if dataclasses.is_dataclass(of) else None))
    sys.stdout.flush()
"""

Ask = Callable[[str], Any]
Asking = Callable[..., AbstractContextManager[Ask]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library and the machine's state are."""
    if why := why_no_library():
        pytest.skip(why)
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(folder: Path) -> Machine:
    """Four cards of 8 GB; nobody is there."""
    machine = Machine(folder, folder / "state")
    for index in range(4):
        machine.card(index, name="Tesla P4", total=7611)
    return machine.write()


@pytest.fixture(scope="module")
def program(folder: Path) -> Iterator[Ask]:
    """A program on the machine that answers with what an expression is, or with the words of a refusal."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, **Machine(folder, folder / "state").environment, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(expression: str) -> Any:
            stdin.write(expression + "\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield ask
        stdin.close()
    assert process.returncode == 0


@pytest.fixture
def asking(program: Ask) -> Asking:
    """The program as it would have begun under these variables."""

    @contextmanager
    def begun(**environment: str) -> Iterator[Ask]:
        program(f"begin({ ({'CUDA_DEVICE_ORDER': 'PCI_BUS_ID'} | environment)!r})")
        yield program

    return begun


def uuid(index: int) -> str:
    return f"GPU-{index:08d}-aaaa-bbbb-cccc-000000000000"


@pytest.mark.slow
def test_a_card_that_the_catalogue_lacks_is_asked_and_gets_a_forecast(machine: Machine, asking: Asking) -> None:
    machine.card(0, name="NVIDIA GeForce GTX 970", total=4096)
    machine.write()
    with asking() as ask:
        gpu = ask("forecasts.gpu_of(RunConfig(device='cuda:0'), door())[0]")
        assert (gpu["name"], gpu["memory_total"], gpu["fp32"]) == ("NVIDIA GeForce GTX 970", 4096 * 2**20, None)
        assert (gpu["compute_capability"], gpu["multiprocessors"]) == ([8, 0], 20)
        config = "RunConfig(seq_len=32, batch_size=2, device='cuda:0')"
        made = ask(f"forecasts.forecast_all([{config}])[0].to_json()")
    assert (made["vram_total_mib"], made["verdict"], made["samples_per_s"]) == (4096, "fits", None)
    least, most = made["used_range_mib"]
    assert least < made["peak_used_mib"] <= most
    assert any("GTX 970 is not in the catalogue" in note for note in made["notes"])


def test_names_are_joined_by_uuid_whatever_cuda_counts(machine: Machine, asking: Asking) -> None:
    machine.card(3, name="NVIDIA A100-SXM4-40GB", total=40960)
    machine.write()
    with asking() as ask:
        for name in ("cuda:3", uuid(3), uuid(3)[:12], "00000000:33:00.0", "33:00.0"):
            assert ask(f"opened({name!r}).info.uuid") == uuid(3), name
        assert ask("opened('cuda:3').info.numbers") == "cuda:3"
        assert ask("opened('cuda').info.memory_total") == 7611 * 2**20  # NVML's, not what CUDA leaves
        assert "4 UUIDs" in ask("opened('GPU-0')")
        assert ask("opened('cuda:9')") == "--device cuda:9 is not there: use cuda:0 to cuda:3."
        assert f"cuda:0 ({uuid(0)})" in ask("opened('GPU-77')")
        assert "00000000:1B:00.0" in ask("opened('99:00.0')")
        assert ask("sorted(cards.contexts)") == []  # to look is not to be there
    with asking(CUDA_DEVICE_ORDER="FASTEST_FIRST") as ask:
        assert ask("opened('cuda:0').info.numbers") == "cuda:0 = gpu 3"
        assert ask(f"opened({uuid(0)!r}).info.numbers") == "cuda:1 = gpu 0"
    with asking(CUDA_VISIBLE_DEVICES="2,3") as ask:
        assert ask("opened('cuda:1').info.numbers") == "cuda:1 = gpu 3"
        assert ask(f"opened({uuid(2)!r}).info.numbers") == "cuda:0 = gpu 2"
        hidden = ask(f"opened({uuid(0)!r})")
        assert "GPU 0 (Tesla P4)" in hidden
        assert "CUDA_VISIBLE_DEVICES is '2,3'" in hidden
        assert f"CUDA_VISIBLE_DEVICES={uuid(0)}" in hidden
    with asking(CUDA_VISIBLE_DEVICES=f"{uuid(3)},{uuid(1)}") as ask:
        assert ask("opened('cuda:0').info.numbers") == "cuda:0 = gpu 3"
        assert ask("opened('cuda:1').info.numbers") == "cuda:1"


@pytest.mark.parametrize("names", ["9", "GPU-ff", "9,0", "nonsense"])
def test_a_variable_that_names_no_card_is_named(names: str, machine: Machine, asking: Asking) -> None:
    why = (
        f"CUDA_VISIBLE_DEVICES={names!r} names none of the 4 GPUs that the driver shows: unset it or name one of them."
    )
    with asking(CUDA_VISIBLE_DEVICES=names) as ask:
        assert ask("opened('cuda')") == f"--device cuda cannot be used. {why} --device cpu always works."
    machine.cards.clear()
    machine.card(0)
    machine.write()
    with asking(CUDA_VISIBLE_DEVICES=names) as ask:
        assert "names not the GPU that the driver shows: unset it or name it." in ask("opened('cuda')")


def test_a_slice_is_not_there_where_no_card_is_cut(machine: Machine, asking: Asking) -> None:
    says = "--device MIG-1: MIG-1 is not there: no card of this machine is cut into MIG slices."
    with asking() as ask:
        assert ask("opened('MIG-1')") == says
        assert ask("'CUDA_VISIBLE_DEVICES' in os.environ") is False
    machine.slice(1, name="Tesla P4 MIG 1g", uuid="MIG-33333333-aaaa", gi=1, ci=0, total=1000, used=15)
    machine.write()
    with asking() as ask:
        ask("door().shutdown()")  # what rarely changes is kept for some seconds with NVML's handles
        assert ask("opened('MIG-1')") != says


def test_free_is_the_emptiest_that_nobody_computes_on(machine: Machine, asking: Asking) -> None:
    here = os.getpid()
    machine.process(0, here, used=0)  # on it, with nothing yet
    machine.card(1, used=4000, gpu=3)
    machine.process(1, here, kind="graphics", used=3900)  # what draws takes no card
    machine.card(2, used=900)
    machine.card(3, used=5000)  # of somebody whom a container hides
    machine.write()
    with asking() as ask:
        assert ask("free.choose(read_device('free'), door(), wait=waited.append)") == 2
        assert ask("waited") == [0.5] * 4  # over two seconds
        assert ask("opened('free').index") == 2
        assert ask("cards.make_context(1)") is None
        assert ask("opened('free').index") == 1  # its own context makes a card no less free
    machine.card(1, used=4000)
    machine.card(2, used=900, gpu=60)
    machine.process(1, here, used=3000)
    machine.write()
    with asking() as ask:
        refused = ask("opened('free')")
        assert "no card is free" in refused
        assert f"cuda:1: your process {here} (3000 MiB)" in refused
        assert "cuda:2: 897 MiB and 60 % of somebody who is not seen from here" in refused
        assert "--device free:shared" in refused
        assert ask("opened('free:shared').index") == 0
        assert ask("opened('free', patient=False).index") == 0  # for a forecast the emptiest must do
    with asking(CUDA_VISIBLE_DEVICES="1") as ask:
        assert "cuda:0: your process" in ask("opened('free')")


def test_a_context_is_measured_only_where_that_does_no_harm(machine: Machine, asking: Asking) -> None:
    machine.card(0, used=7508)  # full
    machine.card(1, mode=3)  # another process has it for itself
    machine.process(1, os.getpid(), used=100)
    machine.card(2, used=2000)  # busy
    machine.process(2, os.getpid(), used=1900)
    machine.write()
    with asking() as ask:
        ask("globals().update(memory=OutsideMemory(door()))")
        for index in (0, 1, 2):
            assert ask(f"memory.measure(opened('cuda:{index}'))") is None
        assert ask("sorted(cards.contexts)") == []
        assert ask("memory.on(opened('cuda:2').info)") is None
        ask("globals().update(measured=memory.measure(opened('cuda:3')))")
        assert ask("sorted(cards.contexts)") == [3]
        # a context takes the same on every card of its name, and what else is there is read
        assert ask("[x // 2**20 for x in dataclasses.astuple(memory.on(opened('cuda:3').info))]") == [500, 0, 3]
        assert ask("[x // 2**20 for x in dataclasses.astuple(memory.on(opened('cuda:2').info))]") == [500, 0, 2000]


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 44.39 GiB of which 5.31 MiB is "
    "free. Process 9139 has 37.10 GiB memory in use. Including non-PyTorch memory, this process has 7.27 GiB memory in "
    "use. Of the allocated memory 6.9 GiB is allocated by PyTorch, and 100 MiB is reserved by PyTorch but unallocated."
)


def test_an_out_of_memory_names_who_took_the_card(machine: Machine, asking: Asking) -> None:
    device = f"opened('cuda:0').describe_out_of_memory(RuntimeError({OUT_OF_MEMORY!r}))"
    with asking() as ask:
        told = ask(device)  # NVML shows nobody: PyTorch's own word
        assert told.startswith("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity")
        assert "is free. The card is shared with process 9139 (37990 MiB)." in told
        assert "take another card (--device free takes an empty one), or wait." in told
        machine.process(0, os.getpid(), used=6000)
        machine.write()
        told = ask(device)
        assert f"shared with your process {os.getpid()} (6000 MiB). They leave no room" in told
        big = OUT_OF_MEMORY.replace("20.00 MiB", "20.00 GiB").replace("Process 9139 has 37.10 GiB memory in use. ", "")
        told = ask(f"opened('cuda:0').describe_out_of_memory(RuntimeError({big!r}))")
        assert "Without them it would not have fitted either." in told
        alone = ask(f"opened('cuda:1').describe_out_of_memory(RuntimeError({big!r}))")
        assert alone.endswith("is free.")
        busy = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
        told = ask(f"opened('cuda:0').explain(RuntimeError({busy!r}))")
        assert f"your process {os.getpid()} (6000 MiB) has it" in told
        assert ask("opened('cuda:0').explain(RuntimeError('no such thing'))") is None


def test_who_is_beside_a_run_is_told_when_it_changes_and_kept_for_its_record(machine: Machine, asking: Asking) -> None:
    ask_there = "[[p.pid for p in told[-1].processes], len(told)]"
    with asking() as ask:
        ask("watch.use([opened('cuda:0').info])")
        assert ask("watch.look()") == []
        assert ask("len(told)") == 0
        machine.process(0, os.getpid(), used=3000)
        machine.process(0, os.getppid(), kind="graphics", used=100)
        machine.write()
        seen = "[[card.index, [p.memory_used for p in others]] for card, others in watch.look()]"
        assert ask(f"[watch.begin(), {seen}]")[1] == [[0, [3000 * 2**20]]]
        assert ask(ask_there) == [[os.getpid()], 1]
        ask("watch.look()")
        assert ask(ask_there)[1] == 1
        machine.processes.clear()
        machine.write()
        assert ask("watch.look()") == []
        assert ask(ask_there) == [[], 2]
        ask("globals().update(Record=__import__('engine.contract.records', fromlist=['']))")
        ask("globals().update(record=Record.RunRecord(run_id=1, config=RunConfig(), outcome=Record.Outcome.COMPLETED))")
        met = ask("dataclasses.asdict(watch.end(record).conditions)")
        assert ([each["pid"] for each in met["neighbours"]], met["peak_others"]) == ([os.getpid()], 3000 * 2**20)
        assert ask("[watch.begin(), watch.end(record).conditions]")[1] is None  # nothing was asked
        assert ask("[watch.look(), watch.end(record).conditions.neighbours]")[1] == []
        assert (
            ask("[watch.begin(), watch.use([opened('cpu').info]), watch.look(), watch.end(record).conditions]")[3]
            is None
        )


def test_of_several_mig_instances_cuda_is_told_which_to_show() -> None:
    one, other = "MIG-11111111-aaaa", "MIG-22222222-aaaa"
    environment: dict[str, str] = {}
    visible._show_instance(read_device(one).card, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": one}
    visible._show_instance(read_device(other).card, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": one}  # what somebody else chose stays
    environment = {"CUDA_VISIBLE_DEVICES": f"{one},{other}"}  # as Slurm does
    visible._show_instance(read_device(other).card, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": other}
    visible._show_instance(read_device("cuda:0").card, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": other}


@pytest.mark.parametrize(
    ("driver", "built_for", "says"),
    [
        ("12.2", None, "built without CUDA: for this driver (CUDA 12.2) run pip install --force-reinstall torch "
         "--index-url https://download.pytorch.org/whl/cu126."),
        ("11.4", None, "'torch<2.8' --index-url https://download.pytorch.org/whl/cu118."),
        ("14.1", None, "/whl/cu130."),
        (None, None, "install a build for your driver's CUDA (https://pytorch.org/get-started/locally/)."),
        ("12.2", "13.0", "built for CUDA 13.0, and the driver runs CUDA up to 12.2: update the driver, or for this "),
        ("12.2", "12.8", "(built for CUDA 12.8) cannot use them: traintop doctor"),
    ],
)  # fmt: skip
def test_why_pytorch_uses_no_gpu_and_what_would_help(driver: str | None, built_for: str | None, says: str) -> None:
    assert says in unusable.reason(driver, built_for, {}, many=True)
    hidden = unusable.reason(driver, built_for, {"CUDA_VISIBLE_DEVICES": ""}, many=False)
    assert hidden == "CUDA_VISIBLE_DEVICES='' hides it from this process."
