"""The machine's cards and who is on them, as NVML shows them. Standard library only.

Memory is in bytes, power in watts, shares in percent; None means unknown (shown as a dash, never as 0).
"""

from __future__ import annotations

from dataclasses import dataclass

GRAVE = frozenset({"hot", "too hot", "power brake", "hardware slowdown"})
"""Reasons in `Card.throttle` that mean trouble with cooling or supply; at its power limit a busy card always is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardProcess:
    """One process on a card."""

    pid: int
    """As the driver counts: the host's, which a container with its own process numbers does not know."""
    kind: str
    """`compute`, `graphics`, `compute+graphics` or `mps` (a client of the CUDA MPS server)."""
    memory_used: int | None = None  # in bytes, on this card
    sm: float | None = None  # percent of the SMs' time over the last second
    slice_id: int | None = None
    """The GPU instance that it is on, where the card is cut into MIG slices."""
    visible: bool = True
    """False where the process belongs to another container or namespace, or is gone: the rest is unknown then."""
    user: str | None = None
    command: str | None = None
    """The whole command line."""
    started_at: float | None = None  # Unix time
    mine: bool = False
    """Whether it belongs to the user who looks."""
    own: bool = False
    """Whether it is this very process."""
    job: str | None = None
    """The Slurm job that its control group names."""
    container: str | None = None
    """The container that its control group names, by the first twelve characters of its number."""

    @property
    def computes(self) -> bool:
        """False for what only draws."""
        return self.kind != "graphics"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigSlice:
    """A MIG device: a part of a card with memory of its own."""

    slice_id: int | None
    """Its GPU instance."""
    name: str | None = None
    uuid: str | None = None
    memory_used: int | None = None
    memory_total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One reading of one card; each field None where the driver or the card does not say."""

    index: int
    """NVML's, as nvidia-smi counts: in the order of the PCI bus, whatever CUDA_VISIBLE_DEVICES says."""
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    lost: bool = False
    """True while it does not answer: only what never changes is known then."""
    memory_used: int | None = None
    """Of all processes, as nvidia-smi shows it: used + reserved + free = total, where `memory_reserved` is known."""
    memory_reserved: int | None = None
    """What the driver keeps for itself. A run's `used` has it in it, since a program cannot have it."""
    memory_total: int | None = None
    utilization: float | None = None  # percent of the last sample period a kernel was running
    memory_utilization: float | None = None  # percent of the period memory was read or written
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None  # degrees Celsius
    fan: float | None = None  # percent of its full speed
    sm_clock: int | None = None  # MHz
    memory_clock: int | None = None  # MHz
    throttle: tuple[str, ...] | None = None
    """Why the card slows itself down right now, in words; empty while it does not."""
    ecc_uncorrected: int | None = None
    """Memory errors since the driver was loaded that ECC found and could not correct."""
    compute_mode: str | None = None
    """`default`, `exclusive` (one process at a time) or `prohibited`."""
    mig: bool | None = None
    """Whether it is cut into slices; None for a card that cannot be."""
    slices: tuple[MigSlice, ...] = ()
    energy: float | None = None
    """Joules since the driver was loaded: two readings tell what the time between them took."""
    processes: tuple[CardProcess, ...] | None = None
    """Who is on it; None where that cannot be asked."""

    @property
    def foreign(self) -> tuple[CardProcess, ...]:
        """Processes that compute on it and are not this one."""
        return tuple(process for process in self.processes or () if process.computes and not process.own)

    @property
    def grave(self) -> tuple[str, ...]:
        """Reasons of `throttle` that mean trouble with cooling or supply."""
        return tuple(reason for reason in self.throttle or () if reason in GRAVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """One reading of all cards."""

    at: float  # Unix time
    cards: tuple[Card, ...] = ()
    problem: str | None = None
    """Why there is no card to show, and what to do, in a sentence."""
    driver: str | None = None
    """Such as `535.129.03`."""
    cuda: str | None = None
    """The newest CUDA version that the driver can run, such as `12.4`."""
    namespaced: bool = False
    """Whether this program sees process numbers of its own, as in a container: the driver's may be none of them."""
    took_s: float = 0.0
    """How long the reading took."""
