"""What a forecast was made from and what it assumes, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.contract.config import RunConfig
from engine.forecast.loops import Loop
from engine.forecast.outside import Outside
from engine.forecast.played import Played
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.gpus.host_link import host_bandwidth
from engine.gpus.units import MIB
from engine.tracing.stack import Stack

_UNEVEN = 0.01
"""Of a rank's memory, what another one's may differ by and go unsaid."""


def about_host(work: Work, gpu: Gpu) -> Iterator[str]:
    if work.host_bytes:
        yield (
            f"Activation offloading keeps {work.host_bytes / MIB:,.0f} MiB in the host's memory and copies "
            f"{work.moved_bytes / MIB:,.0f} MiB a micro-step, at an assumed {host_bandwidth(gpu) / 1e9:,.0f} GB/s."
        )


def about_ranks(config: RunConfig, reserved: Sequence[int], about_link: str | None) -> Iterator[str]:
    """`reserved`: of each rank, in bytes; empty with one GPU."""
    if not reserved:
        return
    least, most = min(reserved), max(reserved)
    if config.parallel == "zero1" and most - least > _UNEVEN * most:
        yield (
            f"zero1 gives each GPU whole tensors' states: GPU {reserved.index(most)} needs most, and "
            f"{(most - least) / MIB:,.0f} MiB more than GPU {reserved.index(least)}."
        )
    if about_link is not None:
        yield about_link


def about_compiling(config: RunConfig, span: tuple[int, int] | None, *, is_traced: bool) -> Iterator[str]:
    if not config.torch_compile or span is None:
        return
    keeps = "what Inductor keeps for backward and no temporaries" if is_traced else "no temporaries"
    yield (
        f"With torch.compile between {span[0] // MIB:,} MiB ({keeps}) and {span[1] // MIB:,} MiB (as without it); the "
        "speed is that without it."
    )


def on_unified(unified: int, on_card: int) -> Iterator[str]:
    if unified:
        where = (
            "all on the card" if on_card == unified else f"{on_card / MIB:,.0f} of them on the card and the rest not"
        )
        yield (
            f"{unified / MIB:,.0f} MiB of optimizer states are in unified memory, which the driver moves to the host "
            f"where the card is full, at the price of time: {where}. They decide no verdict."
        )


def general(
    config: RunConfig,
    gpu: Gpu,
    stack: Stack,
    loop: Loop,
    outside: Outside,
    played: Played,
    limit: int,
    about_data: str | None,
) -> Iterator[str]:
    if gpu.compute_capability < stack.oldest_capability:
        (major, minor), oldest = gpu.compute_capability, ".".join(map(str, stack.oldest_capability))
        yield (
            f"{stack.description.partition(',')[0]} has no code for {gpu.name}, of compute capability {major}.{minor} "
            f"(the oldest is {oldest}): this is what it would take if it had."
        )
    if gpu.fp32 is None:
        yield f"{gpu.name} is not in the catalogue: CUDA says what it has; how fast it would be is not known."
    yield from outside.notes
    if played.limited is not None and played.limited.failed_phase is None:
        more = outside.total + played.free.peak_reserved - limit
        yield (
            f"It fits although it would take {more // MIB:,} MiB more if they were there: the allocator gives cached "
            f"memory back when the card is full, {_how_often(played.retries)}"
        )
    if about_data is not None:
        yield about_data
    if played.free.passed_over:
        n = played.free.passed_over
        yield f"The run is long: of {n:,} later updates and evaluations only the largest were followed."
    if loop.description:
        yield loop.description
    yield f"{stack.description}. Fragmentation moves some peaks by 4 %; the speed is rough."


def _how_often(retries: float) -> str:
    """What giving cached memory back costs, by how often a later update does it."""
    if not retries:
        return "in the first updates only, which are slower for it."
    return (
        f"about {retries:,.3g} times in an update; each time the GPU has to finish all that it was given, and takes "
        "the memory anew, so it is slower than said."
    )
