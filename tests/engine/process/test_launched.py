"""The variables of torchrun and srun, as these programs set them."""

from __future__ import annotations

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.process.launched import Launched, first_host, launched

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RUN_ID": "12",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
SRUN = {
    "SLURM_JOB_ID": "41234567",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
VIRTUAL = RunConfig(device="virtual:tesla-p4")


def found(environ: dict[str, str]) -> Launched:
    here = launched(environ)
    assert here is not None
    return here


def test_torchrun_tells_all() -> None:
    assert found(TORCHRUN) == Launched(
        rank=3,
        world_size=4,
        local_rank=1,
        address="node1",
        port=29500,
        by="torchrun",
        has_store=True,
        attempt="12/0",
    )
    assert found(TORCHRUN).is_silent
    assert not found({**TORCHRUN, "RANK": "0"}).is_silent


def test_processes_that_set_the_variables_themselves_keep_the_store_at_rank_0() -> None:
    by_hand = {name: value for name, value in TORCHRUN.items() if not name.startswith("TORCHELASTIC")}
    assert not found(by_hand).has_store


def test_srun_tells_the_numbers_and_the_first_node() -> None:
    here = found(SRUN)
    assert (here.rank, here.world_size, here.local_rank, here.address, here.by) == (2, 4, 0, "gpu07", "srun")
    assert not here.has_store
    assert found({**SRUN, "SLURM_PROCID": "0"}).port == here.port, "all of a step meet at the same place"
    others = {found({**SRUN, "SLURM_STEP_ID": "1"}).port, found({**SRUN, "SLURM_JOB_ID": "41234568"}).port}
    assert len({here.port, *others}) == 3, "steps and jobs on the same nodes meet at places of their own"
    assert all(1024 <= port < 32_768 for port in (here.port, *others))


def test_processes_of_one_machine_divide_its_cores() -> None:
    assert found(TORCHRUN).threads(8) == 8, "how many there are is not told"
    assert found({**TORCHRUN, "LOCAL_WORLD_SIZE": "2"}).threads(8) == 4
    assert found({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"}).threads(2) == 1


def test_tasks_of_one_node_divide_what_srun_gave_them_together() -> None:
    on_third = {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4(x2),2", "SLURM_NODEID": "2", "SLURM_CPUS_ON_NODE": "16"}
    assert found(on_third).threads(16) == 8
    assert found(on_third).threads(8) == 8, "srun has bound each to its own"
    assert found({**on_third, "SLURM_NODEID": "1"}).threads(16) == 4
    assert found(SRUN).threads(16) == 16


def test_what_a_person_sets_is_taken() -> None:
    here = found({**SRUN, "MASTER_ADDR": "ib-gpu07", "MASTER_PORT": "4000"})
    assert here.meeting_place == "ib-gpu07:4000"


def test_torchrun_inside_srun_is_torchrun() -> None:
    assert found({**SRUN, **TORCHRUN}).by == "torchrun"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RANK": "1"},
        {"WORLD_SIZE": "4"},
        {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
        {name: value for name, value in SRUN.items() if not name.startswith("SLURM_STEP")},
    ],
    ids=["nothing", "a stray rank", "a stray size", "one process", "one task", "a batch script"],
)
def test_a_process_may_be_alone(environ: dict[str, str]) -> None:
    assert launched(environ) is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({**TORCHRUN, "RANK": "4"}, "RANK is '4'"),
        ({**TORCHRUN, "RANK": "x"}, "RANK is 'x'"),
        ({name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}, "LOCAL_RANK is missing"),
        ({**TORCHRUN, "MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
        ({**TORCHRUN, "MASTER_ADDR": ""}, "MASTER_ADDR is not"),
        ({**SRUN, "SLURM_STEP_NODELIST": ""}, "set MASTER_ADDR"),
        ({**SRUN, "SLURM_PROCID": ""}, "SLURM_PROCID is ''"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        launched(environ)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[01-03,07],login", "gpu01"),
        ("gpu[3,7-9]", "gpu3"),
        ("rack[0-1]n[2-3].cluster", "rack0n2.cluster"),
        ("", ""),
    ],
)
def test_slurms_shorthand(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_as_many_gpus_as_processes() -> None:
    here = found(TORCHRUN)
    assert here.placed(VIRTUAL, gpus_given=False).gpus == 4
    assert here.placed(VIRTUAL.with_values(gpus=None), gpus_given=True).gpus == 4
    assert here.placed(VIRTUAL.with_values(gpus=4), gpus_given=True).gpus == 4


@pytest.mark.parametrize(
    ("config", "given", "sentence"),
    [
        (VIRTUAL, True, "torchrun started 4 processes, a GPU each, so --gpus 1 cannot be: leave it out."),
        (VIRTUAL.with_values(gpus=2), False, "--gpus 2 cannot be"),
        (RunConfig(device="free"), False, "--device free would choose one by one: use --device cuda"),
        (RunConfig(device="cpu"), False, "--device cpu has none"),
        (RunConfig(device="cuda:0,1"), False, "more than --device cuda:0,1 names"),
    ],
)
def test_what_says_otherwise_is_refused(config: RunConfig, given: bool, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        found(TORCHRUN).placed(config, gpus_given=given)
