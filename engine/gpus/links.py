"""How fast the cards of one machine send to each other. Standard library only.

Rates are in bytes/s and one direction, which is half of what data sheets print for NVLink.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.gpus.catalogue import Gpu
from engine.gpus.host_link import pcie_bandwidth

NVLINK, PCIE = KINDS = "nvlink", "pcie"

_REACHED = {NVLINK: 0.75, PCIE: 0.55}
"""Share of a link's rate that NCCL's all-reduce reaches as bus bandwidth, in what nccl-tests printed elsewhere.

NVLink: two A100 SXM 208 GB/s and eight 232 of 300 (nccl-tests#178, #175), pairs of A100 72 of 100 (nccl-tests#331);
above it two H100 NVLink bridges with 116 of 300 (nccl#1161) and below it H100 SXM with 476 of 450, where the switch
adds up itself (nccl-tests#290). PCIe: A100 without NVLink between them 20 of 31.5 (nccl-tests#178), four and eight
RTX 5090 35 and 28 of 63 (nccl#1639).
"""
LATENCY_S = {NVLINK: 20e-6, PCIE: 42e-6}
"""Seconds of a collective of a few bytes: eight RTX 4090 42 µs (nccl#1530), two A100 10 µs (nccl-tests#331)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvLink:
    """What a card has of it."""

    rate: float
    """Of all its links together."""
    joins: int | None
    """How many cards a bridge joins; None where each reaches all others of the machine."""
    source: str


def _links(total: float, joins: int | None, source: str, *cards: str) -> dict[str, NvLink]:
    """`total` in GB/s of both directions, as data sheets print it."""
    return {card: NvLink(rate=total / 2 * 1e9, joins=joins, source=source) for card in cards}


NVLINKS: dict[str, NvLink] = {
    **_links(300, None, "Tesla V100 GPU architecture whitepaper: 6 links", "tesla-v100-16gb", "tesla-v100-32gb"),
    **_links(600, None, "NVIDIA A100 datasheet: 12 links, all to all by NVSwitch", "a100-40gb", "a100-80gb"),
    **_links(900, None, "NVIDIA H100 and H200 datasheets: 18 links, all to all by NVSwitch", "h100-80gb", "h200"),
    **_links(1800, None, "NVIDIA Blackwell architecture technical brief: NVLink 5", "b200", "gb200"),
    **_links(
        600,
        2,
        "NVIDIA A100 and H100 PCIe, H100 NVL datasheets: bridges",
        "a100-pcie-80gb",
        "h100-pcie-80gb",
        "h100-nvl",
    ),
    **_links(200, 2, "NVIDIA A30 datasheet: bridge", "a30"),
    **_links(
        112.5, 2, "NVIDIA Ampere GA102 whitepaper: 4 links of 14.0625 GB/s", "rtx-3090", "rtx-a5000", "rtx-a6000", "a40"
    ),
    **_links(100, 2, "NVIDIA Turing architecture whitepaper: 2 links", "rtx-2080-ti", "titan-rtx", "quadro-rtx-8000"),
    **_links(50, 2, "NVIDIA Turing architecture whitepaper: 1 link", "rtx-2080"),
}
"""By the card's key in the catalogue; a card that is not here has none."""

MACHINES = {"gb200": 72}
"""By card, how many NVLink joins in one domain where that is not 8 (NVIDIA GB200 NVL72 datasheet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Between the cards of a run."""

    kind: str
    """`NVLINK` or `PCIE`."""
    rate: float
    """Bus bandwidth of a collective of many bytes (nccl-tests, doc/PERFORMANCE.md)."""
    latency_s: float
    """Of a collective of few."""
    note: str
    """What is assumed of the machine, for who reads the forecast."""


def link_between(gpu: Gpu, cards: int, kind: str | None = None, measured: float | None = None) -> Link | None:
    """What joins so many cards of one kind; None where `kind` names one that they lack.

    Unless `kind` says otherwise, NVLink is taken where it joins all of them by the board, and PCIe where it would take
    a bridge that nobody has told of. `measured` is the bus bandwidth on these very cards.
    """
    nvlink = NVLINKS.get(gpu.key)
    has_all = nvlink is not None and (nvlink.joins is None or nvlink.joins >= cards)
    if kind == NVLINK and not has_all:
        return None
    chosen = kind or (NVLINK if nvlink is not None and nvlink.joins is None else PCIE)
    rate = nvlink.rate if chosen == NVLINK and nvlink is not None else pcie_bandwidth(gpu)
    reached = measured or _REACHED[chosen] * rate
    how = "measured on these cards" if measured else "assumed, not measured"
    where = "NVLink between all" if chosen == NVLINK else "PCIe, 16 lanes for each"
    hint = ""
    if not measured and kind is None and nvlink is not None and nvlink.joins is not None and cards <= nvlink.joins:
        hint = "; with a bridge --link nvlink"
    note = f"Between the GPUs {where} at {reached / 1e9:,.0f} GB/s, {how}{hint}."
    return Link(kind=chosen, rate=reached, latency_s=LATENCY_S[chosen], note=note)
