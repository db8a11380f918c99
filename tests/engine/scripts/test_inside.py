"""What looks on inside a script: it sees what happens, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.scripts import loops
from tests.engine.scripts.watched import Watched, both

SCRIPTS = {
    "plain": loops.plain_loop(),
    "workers": loops.plain_loop(workers=2),
    "fastai": loops.FASTAI,
    "divided": loops.DIVIDED,
    "scaled": loops.SCALED.replace("OPTIMIZER", "SGD(model.parameters(), lr=0.1)"),
    "scaled-fused": loops.SCALED.replace("OPTIMIZER", "SGD(model.parameters(), lr=0.1, fused=True)"),
    "stands-in": loops.STANDS_IN,
    "closure": loops.CLOSURE,
    "gan": loops.GAN,
    "checkpointed": loops.CHECKPOINTED,
    "by-autograd": loops.BY_AUTOGRAD,
    "in-backward": loops.IN_BACKWARD,
    "in-threads": loops.IN_THREADS,
    "saved": loops.SAVED,
    "left": loops.LEFT,
    "nano": loops.NANO,
    "forked": loops.FORKED,
    "pooled": loops.POOLED,
    "out-of-memory": loops.failing("raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.')"),
    "error": loops.failing("raise ValueError('no')"),
    "went-on": loops.failing("import sys; sys.last_value = ValueError('of a cell')"),
    "exit": loops.failing("import sys; sys.exit(3)"),
    "os-exit": loops.failing("import os; os._exit(5)"),
    "signal": loops.failing("import os; os.kill(os.getpid(), 15)"),
    "interrupt": loops.failing("raise KeyboardInterrupt"),
    "fault": "import sys; sys.modules['_traintop_inside.looking'].Later = None; "
    "setattr(sys.modules['_traintop_inside.values'].Values, 'of', None)\n" + loops.plain_loop(),
}
COMPILED = {
    "compiled": loops.COMPILED,
    "compiled-whole": loops.COMPILED_WHOLE,
    "nano": loops.NANO,
}
NANO = "config.py --block_size=16 --gradient_accumulation_steps=4"
PARAMETERS = 32 * 64 + 64 + 64 * 4 + 4


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Watched, Watched]]:
    """All of them, alone and looked on at."""
    return both(
        SCRIPTS,
        tmp_path_factory.mktemp("ran"),
        words={"nano": f"{NANO} --compile=False"},
        files={"nano": loops.NANO_FILES, "fastai": loops.FASTAI_FILES},
    )


Ran = dict[str, tuple[Watched, Watched]]


def _losses(alone: Watched) -> list[float]:
    return [float(line.split()[0]) for line in alone.out.splitlines()]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "fault"])
def test_a_script_computes_and_ends_as_it_does_alone(ran: Ran, name: str) -> None:
    alone, seen = ran[name]
    assert (seen.out, seen.err, seen.code) == (alone.out, alone.err, alone.code)
    assert not seen.of("off")


def test_a_plain_loop_is_seen_whole(ran: Ran) -> None:
    alone, seen = ran["plain"]
    updates = seen.updates()
    assert [each["update"] for each in updates] == list(range(1, 11))
    assert [(each["loss"], each["grad_norm"]) for each in updates] == [
        tuple(map(float, line.split())) for line in alone.out.splitlines()
    ]
    assert {each["samples"] for each in updates} == {8}
    assert {each["tokens"] for each in updates} == {None}
    assert {each["lr"] for each in updates} == {1e-3}
    assert {(each["loss_scale"], each["skipped"]) for each in updates} == {(None, False)}
    for each in updates:
        assert sum(each["shares"].values()) == pytest.approx(each["seconds"], rel=1e-6)
        assert {"data", "forward", "backward", "optimizer"} <= each["shares"].keys()
    assert updates[-1]["t"] == pytest.approx(sum(each["seconds"] for each in updates), rel=1e-6)
    [model] = seen.of("model")
    assert (model["optimizer"], model["model"]) == ("AdamW", "Sequential")
    assert model["trained"] == model["parameters"] == PARAMETERS
    assert seen.of("updates")[-1]["held"] == {
        "weights": 4 * PARAMETERS,
        "gradients": 4 * PARAMETERS,
        "optimizer": 8 * PARAMETERS + 4 * 4,  # and a count of steps for each of four tensors
        "frozen": 0,
    }
    assert (seen.end["updates"], seen.end["micro_steps"]) == (10, 0)
    assert "error" not in seen.end


def test_forked_workers_are_silent(ran: Ran) -> None:
    _, seen = ran["workers"]
    assert len(seen.told) == 1
    assert len(seen.updates()) == 10


def test_a_loss_that_is_divided_for_accumulation_is_told_as_the_model_has_it(ran: Ran) -> None:
    alone, seen = ran["divided"]
    assert [each["loss"] for each in seen.updates()] == pytest.approx(_losses(alone), rel=1e-6)
    assert [each["micro_steps"] for each in seen.updates()] == [4, 4, 2]
    assert [each["samples"] for each in seen.updates()] == [16, 16, 8]


@pytest.mark.parametrize("name", ["scaled", "scaled-fused"])
def test_what_a_scaler_scaled_is_told_as_it_was_and_a_skipped_update_is_one(ran: Ran, name: str) -> None:
    alone, seen = ran[name]
    losses = _losses(Watched(0, "\n".join(alone.out.splitlines()[:-1]), "", []))
    updates = seen.updates()
    assert [each["loss"] for each in updates[:2]] == [sum(losses[n : n + 2]) / 2 for n in (0, 2)]
    assert abs(updates[2]["loss"]) == float("inf")
    assert [each["micro_steps"] for each in updates] == [2, 2, 2, 2]
    assert [each["skipped"] for each in updates] == [False, False, True, False]
    assert [each["loss_scale"] for each in updates] == [1024, 1024, 1024, 512]
    assert [each["samples"] for each in updates] == [None, 6, 6, 6]  # the model is known after the first


def test_what_a_scaler_asks_in_place_of_an_optimizer_is_none(ran: Ran) -> None:
    _, seen = ran["stands-in"]
    updates = seen.updates()
    assert [(each["micro_steps"], each["skipped"]) for each in updates] == [(2, False), (2, False), (4, False)]
    assert [each["optimizer"] for each in seen.of("model")] == ["SGD"]


def test_an_optimizer_that_calls_back_is_seen(ran: Ran) -> None:
    alone, seen = ran["closure"]
    steps = [[float(line) for line in part.split()] for part in alone.out.split("step")[:3]]
    assert [each["micro_steps"] for each in seen.updates()] == [len(step) for step in steps]
    assert [each["loss"] for each in seen.updates()] == pytest.approx([sum(step) / len(step) for step in steps])
    assert all(each["shares"]["backward"] > 0 for each in seen.updates())


def test_of_several_optimizers_the_largest_counts(ran: Ran) -> None:
    _, seen = ran["gan"]
    assert [each["update"] for each in seen.updates()] == [1, 2, 3]
    assert [each["micro_steps"] for each in seen.updates()] == [3, 3, 3]
    assert {each["samples"] for each in seen.updates()} == {8}
    [model] = seen.of("model")
    n_generator, n_critic = 8 * 64 + 64 + 64 * 16 + 16, 16 * 16 + 16 + 16 + 1
    assert model["trained"] == n_generator
    assert seen.end["held"]["weights"] == 4 * (n_generator + n_critic)


def test_the_backward_of_a_checkpointed_part_is_none_of_its_own(ran: Ran) -> None:
    alone, seen = ran["checkpointed"]
    assert [each["loss"] for each in seen.updates()] == _losses(alone)
    assert {each["micro_steps"] for each in seen.updates()} == {1}


def test_fastais_own_optimizers_are_seen(ran: Ran) -> None:
    alone, seen = ran["fastai"]
    updates = seen.updates()
    assert [(each["loss"], each["grad_norm"]) for each in updates] == [
        tuple(map(float, line.split())) for line in alone.out.splitlines()
    ]
    assert [each["lr"] for each in updates] == [0.1 * 0.5**n for n in range(1, 11)]
    assert all(each["shares"]["optimizer"] > 0 for each in updates)
    [model] = seen.of("model")
    assert (model["optimizer"], model["trained"]) == ("Optimizer", PARAMETERS)
    held = seen.of("updates")[-1]["held"]
    assert held["optimizer"] == held["weights"] == 4 * PARAMETERS


def test_an_error_after_which_the_training_went_on_is_not_its_end(ran: Ran) -> None:
    _, seen = ran["went-on"]
    assert "error" not in seen.end
    assert len(seen.updates()) == 10


def test_gradients_without_backward_are_updates_without_a_loss(ran: Ran) -> None:
    alone, seen = ran["by-autograd"]
    assert [each["loss"] for each in seen.updates()] == [*_losses(alone)[:3], None, None]
    assert [each["micro_steps"] for each in seen.updates()] == [1, 1, 1, 0, 0]


def test_optimizers_that_step_within_backward_are_seen(ran: Ran) -> None:
    alone, seen = ran["in-backward"]
    assert [each["loss"] for each in seen.updates()] == _losses(alone)
    assert {each["micro_steps"] for each in seen.updates()} == {1}


def test_a_loop_in_a_thread_is_seen_apart_from_another(ran: Ran) -> None:
    alone, seen = ran["in-threads"]
    assert [each["loss"] for each in seen.updates()] == _losses(alone)
    assert {each["micro_steps"] for each in seen.updates()} == {1}


def test_nothing_that_it_trains_is_kept(ran: Ran) -> None:
    alone, _ = ran["left"]
    assert alone.out.splitlines()[-1] == "[None, None, None]"  # and so it is with it: the outputs are equal


@pytest.mark.slow
def test_what_is_compiled_is_compiled_as_it_is_alone(tmp_path: Path) -> None:
    ran = both(COMPILED, tmp_path, words={"nano": NANO}, files={"nano": loops.NANO_FILES})
    for alone, seen in ran.values():
        assert (seen.out, seen.code, alone.code) == (alone.out, 0, 0), alone.err
        assert not seen.of("off")
    alone, seen = ran["compiled"]
    assert [each["loss"] for each in seen.updates()] == _losses(alone)
    assert len(ran["compiled-whole"][1].updates()) == 5
    alone, seen = ran["nano"]
    assert seen.of("model")[0]["model"] == "OptimizedModule"
    _check_nano(alone, seen)


def test_a_loop_without_a_loader_is_seen(ran: Ran) -> None:
    alone, seen = ran["nano"]
    assert alone.code == 0, alone.err
    assert seen.of("model")[0]["model"] == "GPT"
    _check_nano(alone, seen)


def _check_nano(alone: Watched, seen: Watched) -> None:
    updates = seen.updates()
    assert [each["micro_steps"] for each in updates] == [4] * 6
    assert [each["lr"] for each in updates] == pytest.approx([6e-4 * n / 10 for n in range(1, 7)])
    assert [(each["samples"], each["tokens"]) for each in updates] == [(None, None), *[(48, 48 * 16)] * 5]
    last = [float(line.split("loss ")[1]) for line in alone.out.splitlines() if line.startswith("iter")]
    assert [abs(each["loss"] - loss) < 0.5 for each, loss in zip(updates, last, strict=True)] == [True] * 6
    for each in updates[1:]:
        assert each["shares"]["forward"] > 0
    assert all(each["grad_norm"] is not None for each in updates)


def test_a_forks_child_that_trains_is_seen_too(ran: Ran) -> None:
    _, seen = ran["forked"]
    assert sorted(process[-1]["updates"] for process in seen.told) == [5, 5]
    first, second = sorted((process[0] for process in seen.told), key=lambda hello: hello["pid"])
    assert second["parent"] == first["pid"]


def test_processes_of_multiprocessing_are_seen(ran: Ran) -> None:
    _, seen = ran["pooled"]
    assert [process[-1]["updates"] for process in seen.told] == [5, 5]
    assert len(seen.updates()) == 10


@pytest.mark.parametrize(
    ("name", "code", "error"),
    [
        ("out-of-memory", 1, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."),
        ("error", 1, "ValueError: no"),
        ("interrupt", -2, "KeyboardInterrupt: "),
        ("exit", 3, None),
    ],
)
def test_an_error_is_told_with_its_phase(ran: Ran, name: str, code: int, error: str | None) -> None:
    _, seen = ran[name]
    assert seen.code == code
    assert seen.end.get("error") == error
    assert seen.end.get("out_of_memory", False) == (name == "out-of-memory")
    assert (seen.end["phase"], seen.end["updates"]) == ("forward", 3)


@pytest.mark.parametrize(("name", "code"), [("os-exit", 5), ("signal", -15)])
def test_what_ends_at_once_has_told_what_it_could(ran: Ran, name: str, code: int) -> None:
    _, seen = ran[name]
    assert seen.code == code
    assert len(seen.updates()) >= 2
    assert not seen.of("end")


def test_a_fault_in_it_ends_the_looking_with_one_line_and_not_the_script(ran: Ran) -> None:
    _, seen = ran["fault"]
    assert len(seen.of("off")) == 1
    assert not seen.of("updates")
