"""Stack profiles: what the software of a day holds on a GPU. Data, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.config import RunConfig
from engine.gpus.catalogue import Gpu
from engine.gpus.contexts import CUDA_11, LAZY, bare_context
from engine.gpus.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """PyTorch, transformers and CUDA of one time."""

    name: str
    description: str
    is_of_2023: bool = False
    """PyTorch 2.0 and transformers 4.33: no fused optimizer by default, eager attention only, and what
    `engine.forecast.bert_2023` and `ForeachAdam20` describe."""
    cuda: str = LAZY
    """Which public measurements of contexts count for it: one of those that `engine.gpus.contexts` names."""
    context: int | None = None
    """Bytes of a CUDA context on a card where it was not measured; None: a bare one, by the card's size."""
    libraries: int
    """Bytes of library images (cuBLAS, kernels) that a training loads, likewise."""
    oldest_capability: tuple[int, int] = (5, 0)
    """The oldest compute capability that PyTorch's builds of the time have code for (`TORCH_CUDA_ARCH_LIST` of
    .ci/manywheel/build_cuda.sh)."""
    grows_down: bool
    """Whether the driver puts each new segment below the one before."""

    def adapt(self, config: RunConfig) -> RunConfig:
        """The run as this stack carries it out."""
        if not self.is_of_2023:
            return config
        return config.with_values(attention="eager", optimizer_implementation="foreach")

    def outside(self, gpu: Gpu) -> tuple[int, int]:
        """Bytes of the context and of the libraries: measured on such a card, or this stack's.

        What the driver keeps is counted with the context, as NVML counts it as used.
        """
        context = gpu.context_bytes or self.context or bare_context(gpu)
        return context + gpu.driver_bytes, gpu.library_bytes or self.libraries

    def workspaces(self, capability: tuple[int, int]) -> tuple[int, int]:
        """Bytes of a cuBLAS workspace, of which the forward's thread and autograd's have one each, and of cuBLASLt's.

        `:4096:2:16:8` KiB before Hopper, 32 MiB on it; cuBLASLt has 1 MiB, which PyTorch 2.0 gave back after each use
        (aten/src/ATen/cuda/CublasHandlePool.cpp).
        """
        return 32 * MIB if capability[0] == 9 else 8320 * 1024, 0 if self.is_of_2023 else MIB


CURRENT = Stack(
    name="current",
    description="PyTorch 2.6 and newer, transformers 5",
    # assumed for cards on which they were not measured: forecasts say so, and --library-mib replaces them
    libraries=240 * MIB,
    # the allocations of a training on an H200 with driver 580, recorded and replayed, came out the same only so
    grows_down=True,
)

LECTURE_2023 = Stack(
    name="lecture-2023",
    description="PyTorch 2.0, transformers 4.33, CUDA 11.4: the lecture's",
    is_of_2023=True,
    cuda=CUDA_11,
    oldest_capability=(3, 7),
    # the lecture's transcript: 417 MiB used after torch.ones((1, 1)).to("cuda"), of which 2 MiB are its segment
    context=415 * MIB,
    # its out-of-memory message: 7611 MiB - 16.81 free - 6.90 GiB reserved (7060.5 to 7070.7) - 415: 109 to 119 MiB
    libraries=114 * MIB,
    grows_down=False,
)

STACKS = {stack.name: stack for stack in (CURRENT, LECTURE_2023)}
