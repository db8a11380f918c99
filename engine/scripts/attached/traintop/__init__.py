"""Lets traintop look on where a training cannot be started by it: in a notebook, or under a launcher.

    import traintop
    traintop.attach()      # from here on the training of this process is a run of the history
    traintop.detach()      # ends that run before the process does; it may be left out

Python's own library alone: neither traintop's packages nor torch are imported here, as scripts may have an `engine.py`.
"""

import atexit
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

__all__ = ["attach", "detach"]

_PATIENCE_S = 30.0
"""For the process that listens to be there."""
_WRITING_S = 5.0
"""For it to write how the run ended."""
_INSIDE = "_traintop_inside"
_times = 0
"""That it was attached."""
_attached: "tuple[int, subprocess.Popen[bytes] | None] | None" = None
"""This process's number, and who listens, where this process has started it; None: it is not attached."""


def attach(name: str | None = None) -> bool:
    """Begin a run: what this process trains from now on is seen in `traintop watch`, and in the app.

    Its row appears with the first update. `name` is what it is called; without it that is the command line, or the
    notebook's name. Called again, it ends that run and begins another. Processes of a launcher such as torchrun are one
    run where each calls it. True where somebody listens; where nobody does, a line on stderr says why, and the training
    goes on as without it. Never raises.
    """
    global _attached, _times
    if _INSIDE in sys.modules and os.environ.get("TRAINTOP_WIRE"):
        return True  # traintop has started this process itself
    detach()
    _times += 1
    try:
        place = _meeting_place()
        if place is not None and os.environ.get("LOCAL_RANK", "0") != "0":
            (wire, inside), child = _met(place), None
        else:
            wire, inside, child = _listener(name, place)
        _load(inside).begin(wire)
    except Exception as error:
        sys.stderr.write(f"traintop: this training is not watched: {error}\n")
        return False
    atexit.unregister(detach)
    atexit.register(detach)
    _attached = os.getpid(), child
    return True


def detach() -> None:
    """End the run that `attach` has begun, if there is one. Never raises."""
    global _attached
    was, _attached = _attached, None
    module = sys.modules.get(_INSIDE)
    if was is None or module is None or was[0] != os.getpid():
        return
    with contextlib.suppress(Exception):
        module.end()
    if was[1] is not None:
        with contextlib.suppress(Exception):
            _wait_for(was[1])


def _wait_for(child: "subprocess.Popen[bytes]") -> None:
    """Until it has written how the run ended: it would be ended with this process where that is a container's first."""
    if "torch" not in sys.modules:  # then it has heard of nothing
        child.terminate()
    try:
        child.wait(_WRITING_S)
    except subprocess.TimeoutExpired:  # what looks on was switched off, and has told no end
        child.terminate()


def _meeting_place() -> "str | None":
    """The file in which the processes of a launcher find the listener that their first one starts; None for one alone.

    They have their parent in common, which is the launcher.
    """
    if (os.environ.get("LOCAL_WORLD_SIZE") or "1") == "1":
        return None
    home = os.path.expanduser(os.environ.get("TRAINTOP_HOME") or "~/.cache/traintop")
    port = re.sub(r"\W", "", os.environ.get("MASTER_PORT", ""))
    return os.path.join(home, "attached", f"{os.getppid()}-{port}-{_times}.json")


def _met(place: str) -> tuple[str, str]:
    """What the first process has found. Raises `RuntimeError` where it does not come."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError, KeyError), open(place, encoding="utf-8") as file:
            told = json.load(file)
            if os.path.exists(told["wire"]):
                return told["wire"], told["inside"]
        time.sleep(0.05)
    raise RuntimeError("the first process of the launcher has not attached")


def _listener(name: str | None, place: "str | None") -> "tuple[str, str, subprocess.Popen[bytes]]":
    """Start the process that keeps the run; its socket, the folder of what looks on, and the process.

    Raises `RuntimeError`.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, os.path.join(here, "__main__.py"), "attach", "--pid", str(os.getpid())]
    if hasattr(sys, "ps1") or "IPython" in sys.modules:
        command.append("--interactive")
    if place is not None:
        command += ["--meet", place]
    child = subprocess.Popen(
        [*command, "--", *(_plain(word) for word in _called(name))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for the training
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout, child.stderr:
        line, until = b"", time.monotonic() + _PATIENCE_S
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))
            more = os.read(child.stdout.fileno(), 4096) if ready else b""
            if not more:
                break
            line += more
        if line.endswith(b"\n"):
            told = json.loads(line)
            return told["wire"], told["inside"], child
        if not ready:
            child.kill()
            raise RuntimeError(f"its listener was not there after {_PATIENCE_S:.0f} seconds")
        said = child.stderr.read().decode(errors="replace").strip().splitlines()
    raise RuntimeError(said[-1] if said else "its listener could not be started")


def _called(name: str | None) -> list[str]:
    """What the run is called, as the words of a command."""
    if name:
        return [name]
    if "ipykernel" in sys.modules:  # its command line is the kernel's, with a file of one session
        return [os.path.basename(_notebook() or "") or "notebook"]
    return [os.path.basename(sys.orig_argv[0]) or "python", *sys.orig_argv[1:]]


def _notebook() -> "str | None":
    """The notebook's file, where Jupyter or Visual Studio Code tells it to the kernel."""
    told = os.environ.get("JPY_SESSION_NAME")
    return told or getattr(sys.modules.get("__main__"), "__vsc_ipynb_file__", None)


def _plain(word: str) -> str:
    """A word in which no braces are placeholders."""
    return re.sub(r"\{([A-Za-z_][^{}]*)\}", r"{{\1}}", word)


def _load(folder: str) -> ModuleType:
    """What looks on, from its folder: under a name that no script has."""
    if _INSIDE in sys.modules:
        return sys.modules[_INSIDE]
    path = os.path.join(folder, _INSIDE)
    spec = spec_from_file_location(_INSIDE, os.path.join(path, "__init__.py"), submodule_search_locations=[path])
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} is not there")
    module = sys.modules[_INSIDE] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_INSIDE]
        raise
    return module
