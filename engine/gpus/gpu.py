"""What the catalogue knows of a GPU. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One card of the catalogue. Sizes in bytes, rates in FLOP/s and bytes/s."""

    key: str
    """How users name it: `tesla-p4`."""
    name: str
    """As NVML says it."""
    also: tuple[str, ...] = ()
    """Other names: NVML's on other drivers or form factors, and short ones that mean this card."""
    memory_total: int
    """As NVML reports it."""
    usable_bytes: int | None = None
    """What CUDA offers to processes, contexts included; None where unknown."""
    memory_source: str
    fp32: float | None
    """Peak FLOP/s of fp32 outside the tensor cores; None of a card that the catalogue lacks."""
    tf32: float | None = None
    """Peak FLOP/s of tensor cores; None on a card without TF32 (and likewise below)."""
    fp16: float | None = None
    bf16: float | None = None
    memory_bandwidth: float | None
    compute_capability: tuple[int, int]
    multiprocessors: int
    tdp_watts: int | None
    context_bytes: int | None = None
    """Memory that a CUDA context takes, where measured; it depends on driver and CUDA version."""
    library_bytes: int | None = None
    """Memory of the library images that a training loads, where measured, likewise."""
    source: str
    note: str = ""
    slice_of: str = ""
    """Of a MIG instance: the key of the card that it is cut from."""

    @property
    def driver_bytes(self) -> int:
        """What the driver keeps of `memory_total`, and NVML counts as used; 0 where that is unknown."""
        return 0 if self.usable_bytes is None else self.memory_total - self.usable_bytes

    @property
    def threads_per_multiprocessor(self) -> int:
        """Resident threads at most (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""
        if self.compute_capability == (7, 5):
            return 1024
        return 1536 if self.compute_capability in ((8, 6), (8, 7), (8, 9), (12, 0), (12, 1)) else 2048

    def supports(self, precision: str) -> bool:
        """Whether training can use `fp32`, `tf32`, `fp16` or `bf16`.

        TF32 and bf16 need compute capability 8.0. fp16 works everywhere; `peak` says whether it is fast.
        """
        if precision in ("tf32", "bf16"):
            return self.compute_capability >= (8, 0)
        if precision in ("fp32", "fp16"):
            return True
        raise ValueError(f"precision {precision!r} is not known: use fp32, tf32, fp16 or bf16.")

    def peak(self, precision: str) -> float | None:
        """Peak FLOP/s of training's matrix products in this precision, None where the card does not support it.

        Without tensor cores (before compute capability 7.0) fp16 runs at the rate of fp32: PyTorch asks cuBLAS for
        fp16 products with fp32 arithmetic.
        """
        if not self.supports(precision):
            return None
        return self.tensor_cores(precision) or self.fp32

    def tensor_cores(self, precision: str) -> float | None:
        """Peak FLOP/s of the tensor cores in this precision; None where it has none for it."""
        return {"fp32": None, "tf32": self.tf32, "fp16": self.fp16, "bf16": self.bf16}[precision]
