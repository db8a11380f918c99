"""The rules of the house that no linter knows: what an import may cost, who makes threads, who waits for the device."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import tui

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("engine", "tui") for path in (ROOT / package).rglob("*.py"))

HEAVY = {"torch", "transformers", "datasets", "tokenizers", "safetensors", "pynvml", "numpy", "pandas", "pyarrow"}
SCREEN = {"textual", "rich"}

INNER = (
    "answering",
    "training",
    "ranks",
    "techniques",
    "workloads",
    "devices",
    "telemetry",
    "allocator",
    "tracing",
    "forecast",
)
"""Rooms of the engine below the line that the screen never crosses."""
PURE = ["state", "drawing", "console", "command_line"]


def _loaded_by(*modules: str) -> set[str]:
    """Top-level names in `sys.modules` after importing `modules` in a fresh interpreter."""
    script = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def _modules_of(package: str) -> list[str]:
    return [module.name for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}.".replace("/", "."))]


def test_the_whole_screen_is_imported_without_anything_heavy() -> None:
    names = _modules_of("tui")
    assert {"tui.app.app", "tui.cli", "tui.commands.run", "tui.screens.main"} <= set(names)
    assert not _loaded_by(*names) & HEAVY


def test_the_boundary_of_the_engine_is_imported_without_anything_heavy_and_without_the_screen() -> None:
    inner = tuple(f"engine.{room}" for room in (*INNER, "predicting"))  # whose command asks for it late
    in_its_threads = ("engine.session.forecasts", "engine.session.survey")
    names = [name for name in _modules_of("engine") if not name.startswith(inner) and name not in in_its_threads]
    assert {"engine.contract.config", "engine.session.session", "engine.history.history"} <= set(names)
    assert not _loaded_by(*names) & (HEAVY | SCREEN)


def test_all_of_the_engine_is_imported_without_the_screen() -> None:
    names = _modules_of("engine")
    assert "engine.training.trainer" in names
    assert not _loaded_by(*names) & SCREEN


def test_what_is_pure_and_the_command_line_are_imported_without_textual() -> None:
    names = [name for room in PURE for name in _modules_of(f"tui/{room}")]
    assert "tui.state.state" in names
    assert "textual" not in _loaded_by("tui.cli", *names)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["runs"], ["run", "--batch-size", "0"]])
def test_a_command_that_neither_draws_nor_trains_imports_neither(words: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tui.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "TRAINTOP_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert not set(done.stdout.splitlines()[-1].split()) & (HEAVY | {"textual"})


@cache
def _calls(path: Path) -> list[tuple[str, int]]:
    """Every call in a file: the dotted name of what is called, and its line."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return [(ast.unparse(node.func), node.lineno) for node in nodes if isinstance(node, ast.Call)]


def _callers(*endings: str) -> set[str]:
    """Files with a call of something whose dotted name ends in one of `endings`."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for name, _ in _calls(path)
        if any(name == ending or name.endswith("." + ending) for ending in endings)
    }


def test_only_the_session_makes_threads() -> None:
    makers = ("Thread", "Timer", "ThreadPoolExecutor", "start_new_thread", "to_thread", "run_in_executor", "run_worker")
    # in processes that are left behind if they do not watch for the end of the one that they work for
    watchers = {"engine/techniques/workers.py", "tui/commands/watch.py"}
    # a rank that stands in a collective hears and says nothing: others in its process do, and in the parent's
    ranks = {f"engine/ranks/{name}.py" for name in ("group", "heart", "joined", "processes", "rank", "wire")}
    # a process that another program started beside rank 0's has no session; a rank's log may lie on a slow disk
    beside = {"engine/session/silent.py", "tui/commands/run.py", "tui/desk/tail.py"}
    assert _callers(*makers) == {"engine/session/session.py", "engine/session/cards.py"} | watchers | ranks | beside
    for path in SOURCES:  # textual.work(thread=True) is a decorator with a thread behind it
        decorators = [
            ast.unparse(decorator)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for decorator in node.decorator_list
        ]
        assert not [decorator for decorator in decorators if decorator.startswith("work")], path


def test_only_a_script_is_started_with_its_users_environment() -> None:
    """Who starts another program: the scripts' room for the user, and questions that are answered at once."""
    asks = {"engine/process/slurm.py", "tui/commands/doctor.py"}
    attaches = {"engine/scripts/attached/traintop/__init__.py"}  # which is in the user's process itself
    assert _callers("subprocess.Popen", "subprocess.run") == {"engine/scripts/child.py"} | asks | attaches
    assert not _callers("os.fork", "os.system", "os.popen", "posix_spawn")
    assert _callers("killpg", "send_signal") == {"engine/scripts/child.py"}


def test_only_the_trainer_and_its_evaluation_read_a_number_from_the_device() -> None:
    compares = {"engine/answering/comparing.py"}  # after the answers
    trains = {"engine/training/trainer.py", "engine/training/evaluation.py"}
    # in the script: of what is on the CPU
    inside = {f"engine/scripts/inside/_traintop_inside/{name}.py" for name in ("values", "losses")}
    assert _callers("item") <= trains | compares | inside | _devices()


def test_only_the_devices_synchronize_and_only_the_training_asks_them_to() -> None:
    training = {f"engine/training/{name}.py" for name in ("trainer", "clock", "run")}
    measures = {"engine/techniques/parallel/link_speed.py"}  # before the first run on these cards
    answers = {"engine/answering/run.py"}  # before the first request, and after the last
    assert _callers("synchronize") <= training | answers | measures | _devices()
    assert _callers("cuda.synchronize") <= measures | _devices()


_OF_THE_PROCESS = {
    "sdpa_kernel",
    "enable_flash_sdp",
    "enable_math_sdp",
    "enable_mem_efficient_sdp",
    "allow_tf32",
    "set_float32_matmul_precision",
    "set_default_dtype",
    "set_num_threads",
    "set_stance",
    "HF_HUB_OFFLINE",
    "set_verbosity",
}
"""State of torch, transformers and datasets that is not a thread's own."""


def test_the_state_of_the_process_is_touched_at_the_gate_alone() -> None:
    touching = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in _OF_THE_PROCESS)
        or (isinstance(node, ast.Name) and node.id in _OF_THE_PROCESS)
        or (isinstance(node, ast.alias) and node.name in _OF_THE_PROCESS)
    }
    alone = {"engine/ranks/rank.py", "engine/ranks/joined.py"}  # each has its process to itself
    assert touching == {"engine/process/gate.py"} | alone


def _devices() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "engine" / "devices").glob("*.py")}


def test_tensors_and_exceptions_do_not_cross_the_boundary() -> None:
    tree = ast.parse((ROOT / "engine" / "contract" / "events.py").read_text(encoding="utf-8"))
    fields = [
        (node.target.id, {name.id for name in ast.walk(node.annotation) if isinstance(name, ast.Name)})
        for kind in tree.body
        if isinstance(kind, ast.ClassDef)
        for node in kind.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert len(fields) > 50
    for name, types in fields:
        assert not types & {"Tensor", "Exception", "BaseException", "Any", "object", "Callable"}, name


def test_every_package_is_found_by_the_build() -> None:
    assert Path(tui.__file__).parent == ROOT / "tui"
    for folder in {path.parent for path in SOURCES} - {ROOT / "engine/scripts/inside"}:  # it is data: see pyproject
        assert (folder / "__init__.py").is_file(), f"{folder} has no __init__.py, so a wheel would lack it"


def test_sources_do_not_name_anything_but_the_project() -> None:
    private = ("/" + "work/", "/" + "tmp/")
    for path in [*SOURCES, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "constraints.txt"]:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in private if name in text], path
