"""How fast a run's ranks are together, and how much of their time they wait for each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.contract.config import ConfigError, RunConfig
from engine.forecast.parallel import waiting
from engine.forecast.parallel.ranks import Ranks
from engine.forecast.sequence import Sequence
from engine.forecast.speed import Rates, seconds
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.gpus.links import KINDS, MACHINES, NVLINK, Link, link_between
from engine.workloads.data_shape import BatchShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """None where it is not known."""

    samples_per_s: float | None = None
    """Of all ranks together."""
    wait_share: float | None = None
    """Of an update; None with one GPU."""
    speedup: float | None = None
    """Likewise: by how much they are faster than one GPU with the same batch."""


def pace(
    config: RunConfig,
    gpu: Gpu,
    order: Sequence,
    work: Work,
    alone: Work,
    ranks: Ranks,
    batch: BatchShape,
    link: Link | None,
) -> Pace:
    """`work` is the slowest rank's, `alone` one GPU's; `link` joins them, None where that is not known."""
    rates = Rates.of(gpu, config)
    if rates is None:
        return Pace()
    micro_steps = min(config.gradient_accumulation_steps, order.micro_steps)
    samples = micro_steps * order.samples
    one = samples / seconds(alone, micro_steps, rates)
    gpus = config.gpus or 1
    if gpus == 1:
        return Pace(samples_per_s=one)
    if link is None:
        return Pace()
    computing = _computing(work, micro_steps, rates)
    between = waiting.Between(ranks=gpus, link=link)
    if config.parallel == "fsdp":
        waits = waiting.fsdp(work, computing, between)
    else:
        waits = waiting.ddp(ranks.buckets(config.bucket_mib, batch), computing, between)
        if config.parallel == "zero1":
            waits += waiting.zero1(ranks.weights, between)
    update = computing.update + waits
    together = gpus * samples / update
    return Pace(samples_per_s=together, wait_share=waits / update, speedup=together / one)


def joined(config: RunConfig, gpu: Gpu, kind: str | None, measured: float | None) -> tuple[Link | None, str | None]:
    """What joins the ranks' cards, and a sentence on it; None and None with one GPU.

    Raises `ConfigError` where `kind` is one that the cards do not have.
    """
    gpus = config.gpus or 1
    if gpus == 1:
        return None, None
    if kind is not None and kind not in KINDS:
        raise ConfigError("", f"--link {kind!r} is not known: use {' or '.join(KINDS)}.")
    machine = MACHINES.get(gpu.key, 8)
    if gpus > machine:
        return None, (
            f"A machine has {machine} such GPUs as a rule, and {gpus} are in several: how fast these are joined is not "
            "known, and so no speed."
        )
    link = link_between(gpu, gpus, kind, measured)
    if link is None:
        raise ConfigError("", f"--link {NVLINK}: it does not join {gpus} of {gpu.name}: use --link pcie.")
    return link, link.note


def _computing(work: Work, micro_steps: int, rates: Rates) -> waiting.Computing:
    update = seconds(work, micro_steps, rates)
    stepless = replace(work, step_bytes=0, step_operators=0, step_calls=0)
    micro_step = seconds(stepless, micro_steps, rates) / micro_steps
    forward = micro_step * work.forward_flops / max(1, work.flops)
    return waiting.Computing(update=update, forward=forward, backward=micro_step - forward, micro_steps=micro_steps)
