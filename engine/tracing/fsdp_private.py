"""FSDP2 on meta tensors, with ranks that are not there: the one file that touches private parts of PyTorch for it.

FSDP refuses weights on meta in three places. Nothing that it does after that needs their values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import torch

from engine.process import gate

_HOME = "torch.distributed.fsdp._fully_shard"
_NEEDED = (
    (f"{_HOME}._fsdp_param_group", "FSDPParamGroup._validate_no_meta_params"),
    (f"{_HOME}._fully_shard", "_get_device_from_mesh"),
    ("torch.distributed.device_mesh", "_get_device_handle"),
    ("torch.distributed._composable_state", "_module_state_mapping"),
    ("torch.testing._internal.distributed.fake_pg", "FakeStore"),
)
"""Seen in torch 2.13. The first refuses weights on meta, the second says where layers are gathered, the third finds the
module of a kind of devices, with its streams, by its name in `torch`, the fourth keeps a module from being wrapped
again; the last comes with a backend that sends nothing.
"""


def missing() -> str | None:
    """What this PyTorch lacks of the private parts; None where all are there."""
    for module, path in _NEEDED:
        try:
            found: Any = import_module(module)
            for name in path.split("."):
                found = getattr(found, name)
        except (ImportError, AttributeError):
            return f"{module}.{path}"
    return None


def is_taken() -> bool:
    """Whether this process is a rank already: it can be one of one group only."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


@contextmanager
def absent_ranks(n: int) -> Iterator[None]:
    """Make this process the first of `n` ranks, the others of which are not there, and have FSDP take meta tensors.

    What it sends goes nowhere and comes from nowhere. Its streams are `torch.cpu`'s, which are only names. All of it
    belongs to the process, goes through the gate, and is put back; modules that were wrapped may be wrapped again.
    """
    import torch.distributed as dist

    groups, wrapping = (import_module(f"{_HOME}.{name}") for name in ("_fsdp_param_group", "_fully_shard"))
    wrapped = import_module("torch.distributed._composable_state")._module_state_mapping
    store = import_module("torch.testing._internal.distributed.fake_pg").FakeStore()
    with gate.ranks(), ExitStack() as patches:
        patches.enter_context(_replaced(groups.FSDPParamGroup, "_validate_no_meta_params", lambda group: None))
        patches.enter_context(_replaced(wrapping, "_get_device_from_mesh", lambda mesh: torch.device("meta")))
        patches.enter_context(_replaced(torch, "meta", torch.cpu))
        patches.enter_context(_replaced(sys, "excepthook", sys.excepthook))  # it is made to name a rank
        before = set(wrapped)
        dist.init_process_group("fake", rank=0, world_size=n, store=store)
        try:
            yield
        finally:
            dist.destroy_process_group()
            for module in set(wrapped) - before:
                del wrapped[module]


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
