"""Stack profiles: what the software of a day holds on a GPU. Data, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import RunConfig
from engine.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """PyTorch, transformers and CUDA of one time."""

    name: str
    description: str
    is_of_2023: bool = False
    """PyTorch 2.0 and transformers 4.33: no fused optimizer by default, eager attention only, and what
    `engine.memory.bert_2023` and `ForeachAdam20` describe."""
    context: int
    """Bytes of a CUDA context where it was not measured."""
    libraries: int
    """Bytes of library images (cuBLAS and its kernels) that the first matrix product loads."""
    grows_down: bool
    """Whether the driver puts each new segment below the one before."""

    def adapt(self, config: RunConfig) -> RunConfig:
        """The run as this stack carries it out."""
        if not self.is_of_2023:
            return config
        return config.with_values(attention="eager", optimizer_implementation="foreach")

    def workspaces(self, capability: tuple[int, int]) -> tuple[int, int]:
        """Bytes of a cuBLAS workspace, of which the forward's thread and autograd's have one each, and of cuBLASLt's.

        `:4096:2:16:8` KiB before Hopper, 32 MiB on it; cuBLASLt has 1 MiB, which PyTorch 2.0 gave back after each use
        (aten/src/ATen/cuda/CublasHandlePool.cpp).
        """
        return 32 * MIB if capability[0] == 9 else 8320 * 1024, 0 if self.is_of_2023 else MIB


CURRENT = Stack(
    name="current",
    description="PyTorch 2.6 and newer, transformers 5",
    # not measured on a card by this project: forecasts say so, and --context-mib and --library-mib replace them
    context=420 * MIB,
    libraries=120 * MIB,
    # the allocations of a training on an H200 with driver 580, recorded and replayed, came out the same only so
    grows_down=True,
)

LECTURE_2023 = Stack(
    name="lecture-2023",
    description="PyTorch 2.0, transformers 4.33, CUDA 11.4: the lecture's",
    is_of_2023=True,
    # the lecture's transcript: 417 MiB used after torch.ones((1, 1)).to("cuda"), of which 2 MiB are its segment
    context=415 * MIB,
    # its out-of-memory message: 7611 MiB - 16.81 free - 6.90 GiB reserved (7060.5 to 7070.7) - 415: 109 to 119 MiB
    libraries=114 * MIB,
    grows_down=False,
)

STACKS = {stack.name: stack for stack in (CURRENT, LECTURE_2023)}
