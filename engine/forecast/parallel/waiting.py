"""How long a rank waits for the others in an update: bytes, links, and what of it backward and forward hide.

A collective takes its latency and its bytes at the link's bus bandwidth, of which nccl-tests (doc/PERFORMANCE.md) says
what they have to carry: 2 (n - 1) / n of a sum that all have, (n - 1) / n of what is gathered or scattered, all of what
is broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.forecast.parallel.buckets import Buckets
from engine.forecast.work import Work
from engine.gpus.links import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """Seconds of one GPU's work."""

    update: float
    """Of all of an update."""
    forward: float
    """Of a micro-step's forward."""
    backward: float
    """Of a micro-step's backward."""
    micro_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Ranks and what joins them."""

    ranks: int
    link: Link

    def summed(self, n_bytes: int) -> float:
        """Seconds of an all-reduce."""
        return self._seconds(2 * (self.ranks - 1) / self.ranks * n_bytes)

    def gathered(self, n_bytes: int) -> float:
        """Seconds of an all-gather that gives so many bytes, or of a reduce-scatter that takes them."""
        return self._seconds((self.ranks - 1) / self.ranks * n_bytes)

    def broadcast(self, n_bytes: int) -> float:
        """Seconds of a broadcast."""
        return self._seconds(n_bytes)

    def _seconds(self, carried: float) -> float:
        return self.link.latency_s + carried / self.link.rate


def ddp(buckets: Buckets, computing: Computing, between: Between) -> float:
    """Seconds of an update that are left of the sums once the window's last backward is done.

    A bucket is sent when its gradients are there and the one before it has gone; backward computes on meanwhile.
    """
    done = 0.0
    for n_bytes, share in zip(buckets.later, buckets.ready, strict=True):
        done = max(done, share * computing.backward) + between.summed(n_bytes)
    return max(0.0, done - computing.backward)


def zero1(weights: Sequence[int], between: Between) -> float:
    """Seconds in which the ranks hand out what their steps have made of the weights: a broadcast for each tensor."""
    return sum(map(between.broadcast, weights))


def fsdp(work: Work, computing: Computing, between: Between) -> float:
    """Seconds of an update for weights that are not there yet and for the last sums.

    The next layer's weights are gathered while one computes (FSDP2's implicit prefetching); the first ones are waited
    for. In backward the sums go with it, one collective after the other, and the last one is waited for.
    """

    def took(calls: int, n_bytes: int) -> float:
        return calls * between.link.latency_s + between.gathered(n_bytes) - between.link.latency_s if calls else 0.0

    first = took(1, work.first_gathered_bytes)
    last = took(1, work.last_scattered_bytes)
    forward = took(work.forward_gathers, work.forward_gathered_bytes)
    gathers = took(work.gathers - work.forward_gathers, work.gathered_bytes - work.forward_gathered_bytes)
    scatters = took(work.scatters, work.scattered_bytes)
    in_forward = max(first, forward - computing.forward)
    every = in_forward + max(0.0, gathers - computing.backward)
    end = in_forward + max(last, gathers + scatters - computing.backward)
    norms = work.reductions * between.link.latency_s
    return (computing.micro_steps - 1) * every + end + norms
