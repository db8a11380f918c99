"""How fast a card and its host copy to each other. Standard library only."""

from __future__ import annotations

from engine.gpus.catalogue import Gpu

_REACHED = 0.8
"""Share of a link's rate that copies from page-locked memory reach: bandwidthTest of NVIDIA's CUDA samples shows 12 to
13 GB/s of PCIe 3.0's 15.75."""
_PCIE_3, _PCIE_4, _PCIE_5 = 15.75e9, 31.5e9, 63e9
"""Bytes/s of 16 lanes in one direction (PCI-SIG)."""
_C2C = 450e9
"""NVLink-C2C in one direction (NVIDIA Grace Hopper Superchip architecture whitepaper)."""


def host_bandwidth(gpu: Gpu) -> float:
    """Bytes/s of a copy in one direction, in a server that gives the card 16 lanes of its own generation.

    The data sheets' generations: PCIe 3.0 up to Turing, 4.0 for Ampere and Ada, 5.0 for Hopper and Blackwell.
    """
    if gpu.key.startswith(("gh200", "gb200")):
        return _REACHED * _C2C
    return _REACHED * pcie_bandwidth(gpu)


def pcie_bandwidth(gpu: Gpu) -> float:
    """Bytes/s in one direction of 16 lanes of the card's own generation."""
    major = gpu.compute_capability[0]
    return _PCIE_3 if major < 8 else _PCIE_4 if major == 8 else _PCIE_5
