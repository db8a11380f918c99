"""Stack profiles: what the software of a day holds on a GPU. Data, each with its source.

The sources named are files of the versions in the description. How the models of a day differ is in
`engine.forecast.then`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from engine.contract.config import RunConfig, Value
from engine.gpus.catalogue import Gpu
from engine.gpus.contexts import CUDA_10, CUDA_11, LAZY, bare_context
from engine.gpus.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """PyTorch, transformers and CUDA of one time."""

    name: str
    description: str
    torch: tuple[int, int]
    """The oldest PyTorch that it stands for."""
    transformers: tuple[int, int] | None = None
    """The version whose models and losses `engine.forecast.then` rebuilds; None for those that are installed."""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """Knobs as a training of the day has them where its user says nothing."""
    cuda: str = LAZY
    """Which public measurements of contexts count for it: one of those that `engine.gpus.contexts` names."""
    context: int | None = None
    """Bytes of a CUDA context on a card where it was not measured; None: a bare one, by the card's size."""
    libraries: int
    """Bytes of library images (cuBLAS, kernels) that a training loads, likewise."""
    measured: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Bytes of context and libraries together under this stack, by compute capability."""
    oldest_capability: tuple[int, int] = (5, 0)
    """The oldest compute capability that PyTorch's builds of the time have code for (`TORCH_CUDA_ARCH_LIST` of
    .ci/manywheel/build_cuda.sh)."""
    grows_down: bool
    """Whether the driver puts each new segment below the one before."""

    @property
    def is_of_today(self) -> bool:
        """Whether it is what is installed here, and follows this environment's settings."""
        return self.transformers is None

    @property
    def keeps_gradients(self) -> bool:
        """Whether `zero_grad` fills the gradients with zeros: its default is to forget them from PyTorch 2.0 on."""
        return self.torch < (2, 0)

    @property
    def saves_softmax_inputs(self) -> bool:
        """Whether a softmax's backward keeps its input beside its result.

        (`_softmax_backward_data` and `_log_softmax_backward_data` took the input itself before 1.11, since then its
        type: see `softmax_backward_data` of transformers' pytorch_utils.py.)
        """
        return self.torch < (1, 11)

    @property
    def adds_eps_apart(self) -> bool:
        """Whether the foreach Adam holds a second copy of all parameters at its peak.

        (`_multi_tensor_adamw` of torch/optim/adamw.py: `_foreach_add` in 2.0, `_foreach_add_` from 2.1 on.)
        """
        return self.torch < (2, 1)

    def adapt(self, config: RunConfig, given: Collection[str] = ()) -> RunConfig:
        """The run as this stack carries it out; knobs that were `given` stay as they are."""
        return config.with_values(**{name: value for name, value in self.defaults.items() if name not in given})

    def outside(self, gpu: Gpu) -> tuple[int, int]:
        """Bytes of the context and of the libraries: measured on such a card, or this stack's.

        What the driver keeps is counted with the context, as NVML counts it as used.
        """
        if gpu.compute_capability in self.measured:
            return self.measured[gpu.compute_capability] - self.libraries + gpu.driver_bytes, self.libraries
        context = gpu.context_bytes or self.context or bare_context(gpu)
        return context + gpu.driver_bytes, gpu.library_bytes or self.libraries

    def workspaces(self, capability: tuple[int, int]) -> tuple[int, int]:
        """Bytes of a cuBLAS workspace, of which the forward's thread and autograd's have one each, and of cuBLASLt's.

        `:4096:2:16:8` KiB before Hopper, 32 MiB on it; cuBLASLt has 1 MiB, which PyTorch gave back after each use
        before 2.6. Before 2.0 cuBLAS had its workspaces from CUDA itself: they count with the libraries.
        (aten/src/ATen/cuda/CublasHandlePool.cpp)
        """
        if self.torch < (2, 0):
            return 0, 0
        return 32 * MIB if capability[0] == 9 else 8320 * 1024, MIB if self.torch >= (2, 6) else 0


CURRENT = Stack(
    name="current",
    description="PyTorch 2.6 and newer, transformers 5",
    torch=(2, 6),
    # assumed for cards on which they were not measured: forecasts say so, and --library-mib replaces them
    libraries=240 * MIB,
    # the allocations of a training on an H200 with driver 580, recorded and replayed, came out the same only so
    grows_down=True,
)

LECTURE_2023 = Stack(
    name="lecture-2023",
    description="PyTorch 2.0, transformers 4.33, CUDA 11.4: the lecture's",
    torch=(2, 0),
    transformers=(4, 33),
    # training_args.py: adamw_torch; torch/optim/adamw.py: foreach on CUDA where nothing is said
    defaults={"attention": "eager", "optimizer_implementation": "foreach"},
    cuda=CUDA_11,
    oldest_capability=(3, 7),
    # the lecture's transcript: 417 MiB used after torch.ones((1, 1)).to("cuda"), of which 2 MiB are its segment
    context=415 * MIB,
    # its out-of-memory message: 7611 MiB - 16.81 free - 6.90 GiB reserved (7060.5 to 7070.7) - 415: 109 to 119 MiB
    libraries=114 * MIB,
    grows_down=False,
)

# CUDA loaded every kernel of a library with it before 11.7. In out-of-memory messages of the day "total capacity" less
# "free" less "reserved in total by PyTorch" leaves 379 MiB on a K80 (sentence-transformers#304), 890 on a P100
# (transformers#7177), 806 on a T4 (transformers#3360); NVML had 1,343 on a V100 (transformers' guide "Performance and
# scalability" of 2022)
_EAGERLY_LOADED = {(3, 7): 379 * MIB, (6, 0): 890 * MIB, (7, 0): 1341 * MIB, (7, 5): 806 * MIB}

FROM_2020 = Stack(
    name="2020-2021",
    description="PyTorch 1.4 to 1.10, transformers 2 to 4.15, CUDA 10 and 11",
    torch=(1, 6),
    transformers=(4, 3),
    # optimization.py and trainer.py: transformers' own AdamW, which goes from parameter to parameter
    defaults={"attention": "eager", "optimizer_implementation": "loop"},
    measured=_EAGERLY_LOADED,
    cuda=CUDA_10,
    oldest_capability=(3, 7),
    context=600 * MIB,
    libraries=250 * MIB,
    grows_down=False,
)

FROM_2022 = replace(
    FROM_2020,
    name="2022",
    description="PyTorch 1.11 to 1.13, transformers 4.16 to 4.26, CUDA 11",
    torch=(1, 11),
    transformers=(4, 16),
    cuda=CUDA_11,
)

FROM_2023 = Stack(
    name="2023-2024",
    description="PyTorch 2.1 to 2.5, transformers 4.36 to 4.48, CUDA 11.8 and 12",
    torch=(2, 1),
    transformers=(4, 48),
    # training_args.py: adamw_torch, which is foreach on CUDA; attention auto: sdpa where the model had it then
    defaults={"optimizer_implementation": "foreach"},
    libraries=240 * MIB,
    grows_down=False,
)

STACKS = {stack.name: stack for stack in (CURRENT, FROM_2023, LECTURE_2023, FROM_2022, FROM_2020)}
