"""What `traintop doctor` says of training on several GPUs: what they talk by, and whether they reach each other."""

from __future__ import annotations

from typing import Any

from engine.contract.numbers import mib
from tui.commands.finding import Finding

LEAST_SHM = 256 * 2**20
"""Bytes: NCCL's rings and the data loaders' batches take more than the 64 MiB that containers have by default."""


def several(part: dict[str, Any]) -> Finding:
    """Whether the GPUs that PyTorch sees can train one model, by the probe's section `several`."""
    n, cores = part["n_gpus"], part["cores"]
    if n < 2:
        return _virtual(part, cores)
    if part["nccl"] is None:
        fix = "install a build of PyTorch for CUDA on Linux: it has NCCL."
        return Finding(check="several", found=f"{n} GPUs, and this PyTorch has no NCCL", status="problem", fix=fix)
    parts, fixes = [f"{n} GPUs can train together, by NCCL {part['nccl']}"], []
    apart = part["apart"]
    if apart:
        pairs = ", ".join(f"cuda:{one} and cuda:{other}" for one, other in apart[:3])
        more = f" and {len(apart) - 3} more pairs" if len(apart) > 3 else ""
        parts.append(f"no peer access between {pairs}{more}")
        fixes.append("what they send goes through the host's memory, which is slower: nvidia-smi topo -p2p r.")
    else:
        parts.append("each reaches the others' memory")
    if (shm := part["shm_free"]) is not None and shm < LEAST_SHM:
        parts.append(f"only {mib(shm)} MiB free in /dev/shm")
        fixes.append("give a container more: docker run --shm-size 1g, or --ipc host.")
    return Finding(
        check="several", found="; ".join(parts), status="note" if fixes else "ok", fix=" ".join(fixes) or None
    )


def _virtual(part: dict[str, Any], cores: int) -> Finding:
    """Several that are not there train on the cores, by gloo."""
    if not part["gloo"]:
        fix = "install another build of PyTorch to train on several virtual GPUs; forecasts need none."
        return Finding(check="several", found="this PyTorch has no gloo", status="note", fix=fix)
    many = f"up to {cores} virtual GPUs train together here, a core each" if cores > 1 else "one core: no second GPU"
    return Finding(check="several", found=f"{many}; more can be forecast (--gpus N)")
