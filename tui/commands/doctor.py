"""`traintop doctor`: what this machine has for training and for the screen, and how to fix what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig
from engine.contract.host_load import is_busy, taken
from engine.contract.numbers import mib
from engine.models.catalogue import ARCHITECTURES
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.doctor_several import several
from tui.commands.finding import Finding, Status, as_text
from tui.commands.own_python import own_python
from tui.console.report import dump

if TYPE_CHECKING:
    from engine.process.others import Cores

PROBE_S = 180.0
"""Importing PyTorch from a cold network disk takes minutes; longer than this, something hangs."""

_PROBE = """
import json
from engine.training.probe import probe
for part in probe({device}):
    print("\\n" + json.dumps(part), flush=True)
"""
_ON_CPU = "training runs on the CPU"


Part = dict[str, Any]
"""A section of what `engine.training.probe` found."""


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop doctor`."""
    parser.add_argument("--device", metavar="cuda:N", help="compute on this GPU once (default: no GPU is touched)")
    parser.add_argument("--json", action="store_true", help="one JSON object per finding and line on stdout")


def execute(arguments: Namespace) -> int:
    """`traintop doctor`: 4 when nothing can be trained here or a card is lost, else 0. Raises `UsageError`."""
    from engine.process.others import Others
    from tui.commands.doctor_files import files
    from tui.commands.doctor_terminal import terminal

    others = Others()
    others.read()
    probing = start_probe(_ordinal(arguments.device))
    fatal = False
    try:
        for finding in (*python(), *terminal(), *files(), *judged(read_probe(probing)), *host(others.read())):
            fatal |= finding.status == "fatal"
            sys.stdout.write(dump(asdict(finding)) + "\n" if arguments.json else as_text(finding))
            sys.stdout.flush()
    finally:
        probing.kill()
        probing.wait()
    return exit_codes.FAILED if fatal else exit_codes.DONE


def python() -> Iterator[Finding]:
    """The interpreter and the machine."""
    import platform

    import psutil

    from engine.process.machine import Machine

    version = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    yield Finding(check="python", found=version)
    machine, all_ram, all_cores = Machine(), psutil.virtual_memory().total, psutil.cpu_count()
    cores, ram = machine.cores(), machine.memory().total
    of_cores = f" of {all_cores}" if all_cores and cores < all_cores else ""
    of_ram = f" of {mib(all_ram)}" if ram is not None and ram < all_ram else ""
    withheld = " (affinity and control groups allow no more)" if of_cores or of_ram else ""
    found = f"{platform.platform()}, {cores:g}{of_cores} cores, {mib(ram)}{of_ram} MiB RAM{withheld}"
    yield Finding(check="machine", found=found)


def host(now: Cores | None) -> Iterator[Finding]:
    """How busy other programs kept the cores meanwhile; nothing where they hardly did."""
    if now is not None and is_busy(now.cores, now.free, None, RunConfig()):
        fix = "runs are slower, and their rows say so; those on the CPU compute with the threads that are free."
        yield Finding(check="host", found=f"busy: {taken(now.cores, now.free)}", status="note", fix=fix)


def _ordinal(device: str | None) -> int | None:
    if device is None:
        return None
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not (number.isascii() and number.isdecimal())):
        raise UsageError(f"--device {device!r} is no CUDA GPU: use cuda:0, cuda:1, …")
    return int(number[:6] or 0)


def start_probe(device: int | None = None) -> subprocess.Popen[bytes]:
    """Start to ask the driver and to import the libraries, in a process that may crash without harm."""
    return subprocess.Popen(
        own_python(_PROBE.format(device=device)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def read_probe(probing: subprocess.Popen[bytes]) -> list[Part]:
    """The parts that the probe found; a last part `died` when its process did not survive."""
    try:
        out, err = probing.communicate(timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return [{"section": "died", "error": f"importing the training libraries did not end within {PROBE_S:.0f} s"}]
    parts = [part for line in out.splitlines() if (part := _part(line))]
    if probing.returncode:
        last = (err.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        why = f"looking at the training libraries ended the process (exit code {probing.returncode}): {last[:300]}"
        parts.append({"section": "died", "error": why})
    return parts


def _part(line: bytes) -> Part | None:
    """What a line of the probe's output holds; None for what a library printed."""
    try:
        part = json.loads(line)
    except ValueError:
        return None
    return part if isinstance(part, dict) and "section" in part else None


def judged(parts: list[Part]) -> Iterator[Finding]:
    """The driver's GPUs, the libraries, whether PyTorch can use those GPUs, and the hub."""
    n_gpus = 0
    for part in parts:
        match part["section"]:
            case "driver":
                n_gpus = len(part["gpus"])
                yield from driver(part)
            case "library":
                yield library(part)
            case "cuda":
                yield from cuda(part, n_gpus)
            case "several":
                yield several(part)
            case "hub":
                yield hub(part)
            case "died":
                fix = "install traintop in a fresh environment (python3 -m venv)."
                yield Finding(check="libraries", found=part["error"], status="fatal", fix=fix)


def driver(part: Part) -> Iterator[Finding]:
    """The NVIDIA driver and its GPUs."""
    if part["problem"]:
        found = f"no NVIDIA GPU can be asked; {_ON_CPU}"
        yield Finding(check="driver", found=found, status="note", fix=part["problem"])
        return
    yield Finding(check="driver", found=f"NVIDIA {part['version'] or '?'}, runs CUDA up to {part['cuda'] or '?'}")
    yield from map(card, part["gpus"])


def card(gpu: Part) -> Finding:
    """One card of the driver's: lost, in trouble, shared in a way of its own, or nothing to say."""
    check, name = f"gpu {gpu['index']}", gpu["name"] or "GPU"
    if gpu["lost"]:
        fix = "look for Xid lines in dmesg; nvidia-smi -r or a reboot usually brings it back. Choose another card."
        return Finding(check=check, found=f"{name}: lost, it does not answer", status="fatal", fix=fix)
    used = f", {mib(gpu['memory_used'])} in use" if gpu["memory_used"] is not None else ""
    used += f" by {gpu['others']} process{'es' * (gpu['others'] != 1)}" if gpu["others"] else ""
    parts = [f"{name}, {mib(gpu['memory_total'])} MiB{used}"]
    problems, notes = _troubles(gpu), _conditions(gpu)
    parts += [what for what, _ in (*problems, *notes)]
    fixes = " ".join(how for _, how in (*problems, *notes))
    status: Status = "problem" if problems else "note" if notes else "ok"
    return Finding(check=check, found="; ".join(parts), status=status, fix=fixes or None)


def _troubles(gpu: Part) -> list[tuple[str, str]]:
    """What is broken, and what to do."""
    found = []
    if gpu["ecc_uncorrected"]:
        errors = f"{gpu['ecc_uncorrected']} uncorrected ECC error{'s' * (gpu['ecc_uncorrected'] != 1)}"
        found.append((errors, "a run on it may crash or learn nonsense: tell the administrator, a reset may help."))
    if gpu["grave"]:
        why = " and ".join(gpu["grave"])
        found.append((f"slowed down ({why})", "look at its cooling and power supply: speeds measured now are too low."))
    if gpu["compute_mode"] == "prohibited":
        found.append(("compute mode prohibited", "nothing can compute on it: sudo nvidia-smi -c DEFAULT."))
    if gpu["compute_mode"] == "exclusive" and gpu["others"]:
        found.append(("compute mode exclusive, and taken", "choose another card with --device, or wait."))
    return found


def _conditions(gpu: Part) -> list[tuple[str, str]]:
    """What is not broken, and changes what can be done with it."""
    found = []
    if gpu["compute_mode"] == "exclusive" and not gpu["others"]:
        found.append(("compute mode exclusive", "one process at a time: a second run on it fails."))
    if gpu["mig"]:
        slices = f"{gpu['slices']} slice{'s' * (gpu['slices'] != 1)}"
        found.append((f"MIG mode, {slices}", "choose a slice: CUDA_VISIBLE_DEVICES=MIG-… (nvidia-smi -L lists them)."))
    mild = [reason for reason in gpu["throttle"] or () if reason not in gpu["grave"]]
    if mild:
        found.append((f"slowed down ({' and '.join(mild)})", "it is at its limit now: usual under full load."))
    return found


def library(part: Part) -> Finding:
    """One library: its version, or that it cannot be imported."""
    name = part["name"]
    if "error" in part:
        fix = f"install it again: {sys.executable} -m pip install --force-reinstall {name}"
        return Finding(check=name, found=f"cannot be imported: {part['error']}", status="fatal", fix=fix)
    return Finding(check=name, found=f"{part['version']}, imported in {part['import_s']:.1f} s")


def cuda(part: Part, n_gpus: int) -> Iterator[Finding]:
    """Whether PyTorch can use the `n_gpus` GPUs that the driver shows."""
    built_for = part["built_for"]
    missed: Status = "problem" if n_gpus else "note"
    if not built_for:
        fix = "install a build for your driver's CUDA: https://pytorch.org/get-started/locally/" if n_gpus else None
        found = f"this PyTorch is built without CUDA; {_ON_CPU}"
        yield Finding(check="cuda", found=found, status=missed, fix=fix)
    elif not part["available"]:
        fix = "look at CUDA_VISIBLE_DEVICES, and whether the driver runs this CUDA version." if n_gpus else None
        found = f"PyTorch is built for CUDA {built_for} and finds no GPU; {_ON_CPU}"
        yield Finding(check="cuda", found=found, status=missed, fix=fix)
    else:
        yield Finding(check="cuda", found=f"PyTorch is built for CUDA {built_for}")
    yield from map(_cuda_gpu, part["gpus"])


_BUSY = ("out of memory", "busy or unavailable")
"""What CUDA says of a card that others have taken, by memory or for themselves."""


def _cuda_gpu(gpu: Part) -> Finding:
    """One GPU as PyTorch sees it."""
    check = f"cuda:{gpu['index']}"
    name = f"{gpu.get('name', 'GPU')}, compute capability {gpu.get('capability', '?')}"
    name += f", {gpu['uuid']}" if gpu.get("uuid") else ""
    error = gpu["error"]
    if error and any(words in error for words in _BUSY):
        fix = f"others have taken it: choose another with --device (`traintop top` shows who), or wait: {error}"
        return Finding(check=check, found=f"{name}: taken", status="problem", fix=fix)
    if gpu.get("built_for_it") is False or (error and "no kernel image" in error):
        why = f": {error}" if error else "."
        fix = f"install a PyTorch that is built for compute capability {gpu.get('capability', '?')}{why}"
        return Finding(check=check, found=f"{name}: this PyTorch has no code for it", status="problem", fix=fix)
    if error:
        fix = f"choose another with --device; dmesg and nvidia-smi may say more: {error}"
        return Finding(check=check, found=f"{name}: a first small computation failed", status="problem", fix=fix)
    return Finding(check=check, found=f"{name}{', computes' if gpu.get('tried') else ''}")


def hub(part: Part) -> Finding:
    """The hub, and what is in its cache for when it does not answer."""
    presets = part["presets"]
    cached = f"weights of {', '.join(presets)} are" if presets else "no preset's weights are"
    text = f"{cached} in its cache {part['path']}"
    text += f"; {len(ARCHITECTURES)} models are forecast without it (`traintop forecast --help` lists them)"
    if part["problem"] is None:
        return Finding(check="hub", found=f"{part['endpoint']} answers; {text}")
    fix = None if presets else "presets start from random weights; for real ones give --model FOLDER."
    return Finding(check="hub", found=f"{part['problem']}; {text}", status="note", fix=fix)
