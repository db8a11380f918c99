"""A script that tells over the wire what it is given, without torch: what the instrument would tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_SPEAKER = """
import json, os, socket, sys, time
def speaker(**hello):
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(os.environ["TRAINTOP_WIRE"])
    tell(wire, kind="hello", pid=os.getpid(), **hello)
    return wire
def tell(wire, **message):
    wire.sendall(json.dumps(message).encode() + b"\\n")
"""


def row(update: int, **values: Any) -> dict[str, Any]:
    """An update of 8 samples in a tenth of a second."""
    shares = {"data": 0.01, "forward": 0.03, "backward": 0.04, "optimizer": 0.01, "other": 0.01}
    told = {"update": update, "t": 0.1 * update, "micro_steps": 1, "loss": 1.0 / update, "lr": 1e-3}
    return {**told, "grad_norm": None, "samples": 8, "tokens": None, "seconds": 0.1, "shares": shares, **values}


def updates(first: int, last: int, **values: Any) -> dict[str, Any]:
    """A message with updates."""
    held = {"weights": 400, "gradients": 400, "optimizer": 800, "frozen": 100}
    rows = [row(update, **values) for update in range(first, last + 1)]
    return {"kind": "updates", "rows": rows, "held": held, "memory": {}}


MODEL = {
    "kind": "model",
    "optimizer": "AdamW",
    "model": "GPT",
    "trained": 100,
    "parameters": 125,
    "torch": "2.9.0",
    "device": {},
}


def script(folder: Path, told: Iterable[Mapping[str, Any]], then: str = "", name: str = "speaks.py") -> Path:
    """A script that tells these messages and does `then`, where `wire` is the connection."""
    path = folder / name
    lines = [_SPEAKER, "wire = speaker()"]
    lines += [f"tell(wire, **json.loads({json.dumps(message)!r}))" for message in map(dict, told)]
    path.write_text("\n".join([*lines, then, ""]))
    return path
