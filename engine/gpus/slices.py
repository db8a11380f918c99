"""MIG instances: slices of a card, as NVIDIA's MIG user guide cuts them. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from engine.gpus.gpu import Gpu
from engine.gpus.units import MIB

_SOURCE = "NVIDIA MIG user guide, and `nvidia-smi mig -lgip` in public issues"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    name: str
    mib: int
    multiprocessors: int
    eighths: int
    """Of the card's memory, and so of its bandwidth."""


def _profiles(*rows: tuple[str, int, int, int]) -> tuple[_Profile, ...]:
    return tuple(_Profile(name=row[0], mib=row[1], multiprocessors=row[2], eighths=row[3]) for row in rows)


_A100_40 = _profiles(
    ("1g.5gb", 4864, 14, 1), ("2g.10gb", 9984, 28, 2), ("3g.20gb", 20096, 42, 4), ("4g.20gb", 20096, 56, 4)
)
_A100_80 = _profiles(
    ("1g.10gb", 9728, 14, 1), ("2g.20gb", 19968, 28, 2), ("3g.40gb", 40192, 42, 4), ("4g.40gb", 40192, 56, 4)
)
_H100_80 = _profiles(
    ("1g.10gb", 9856, 16, 1), ("2g.20gb", 19968, 32, 2), ("3g.40gb", 40192, 60, 4), ("4g.40gb", 40192, 64, 4)
)

_CUT = {"a100-40gb": _A100_40, "a100-80gb": _A100_80, "a100-pcie-80gb": _A100_80, "h100-80gb": _H100_80}


def slices(cards: Mapping[str, Gpu]) -> Iterator[Gpu]:
    """The instances of every card that is cut: rates by multiprocessors, bandwidth by eighths of the memory."""
    for key, profiles in _CUT.items():
        card = cards[key]
        for profile in profiles:
            yield _slice(card, profile)


def _slice(card: Gpu, profile: _Profile) -> Gpu:
    share = profile.multiprocessors / card.multiprocessors

    def of(rate: float | None) -> float | None:
        return None if rate is None else rate * share

    return replace(
        card,
        key=f"{card.key}-{profile.name}",
        name=f"{card.name} MIG {profile.name}",
        also=tuple(f"{name} MIG {profile.name}" for name in card.also),
        memory_total=profile.mib * MIB,
        usable_bytes=profile.mib * MIB,
        memory_source=_SOURCE,
        fp32=of(card.fp32),
        tf32=of(card.tf32),
        fp16=of(card.fp16),
        bf16=of(card.bf16),
        memory_bandwidth=None if card.memory_bandwidth is None else card.memory_bandwidth * profile.eighths / 8,
        multiprocessors=profile.multiprocessors,
        source=f"{card.source}; {_SOURCE}",
        slice_of=card.key,
        note=f"A MIG instance with {profile.multiprocessors} of {card.multiprocessors} multiprocessors.",
    )
