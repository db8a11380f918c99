"""The interface of a device: place, synchronize, memory numbers, out-of-memory test, clean up."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Memory, Phase
from engine.contract.text import first_line
from engine.devices.host import Host, HostMemory
from engine.devices.precision import Precision
from engine.process import heap
from engine.tracing.quantised import quantised_parameters

T = TypeVar("T")
FRESH_S = 0.05
"""A reading of used memory costs about 0.1 ms, too much for every update of a tiny model: it is kept this long."""


class Device(ABC):
    """Where a run's tensors live. Made and used in the engine thread, except `memory`, which any thread may call."""

    info: DeviceInfo
    torch_device: torch.device
    capability: tuple[int, int] | None = None
    """CUDA compute capability of the GPU that this is, or stands for; None on a CPU."""
    pins_memory = False
    """Whether copies to this device gain from page-locked host memory."""

    accounts = False
    """Whether this device accounts for tensors itself, which is slow for shapes that are new to it: those of the
    answers to come are to be met while it warms up."""

    @property
    def is_tracing(self) -> bool:
        """Whether operators are being accounted for."""
        return False

    runs_ahead = False
    """Whether the host gives this device work without waiting for it: what it is at is not what the host is at."""

    @abstractmethod
    def refuse(self, config: RunConfig) -> None:
        """Raise `ConfigError`, naming the fix, when this device cannot run `config`."""

    @contextmanager
    def settings(self, config: RunConfig) -> Iterator[None]:
        """Set the process-wide switches that the run needs, and put them back."""
        yield

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Around all tensor work of a run; the virtual device accounts for every tensor in it."""
        yield

    @contextmanager
    def on_host(self) -> Iterator[None]:
        """Around work on tensors that is none of the device's, such as writing them to a file."""
        yield

    @contextmanager
    def dividing(self, weights: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor]) -> Iterator[None]:
        """Around the dividing of weights among ranks, which puts them on the device first, and their buffers."""
        yield

    @contextmanager
    def answering(self, kind: Hashable, is_whole: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Around the answering of a batch. `kind`: all that decides which tensors it makes, and of which shape; and
        `is_whole`, asked at its end: whether no batch of the kind can go on longer.
        """
        yield

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:  # noqa: B027 (most devices do not care)
        """These are keys and values that are kept for the tokens to come."""

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:  # noqa: B027 (most devices do not care)
        """These are kept for the batches to come."""

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Around what a rank makes to share its gradients by, before it trains."""
        yield

    def adopt_states(self, states: Iterable[torch.Tensor]) -> None:  # noqa: B027 (most devices do not care)
        """An optimizer's states, which were read from a file, are on the device."""

    def enter(self, phase: Phase) -> None:  # noqa: B027 (most devices do not care)
        """The run goes over to another phase."""

    def create_context(self) -> None:
        """Make the device ready, as the lecture does, by putting one number on it."""
        torch.ones((1, 1)).to(self.torch_device)

    def precision(self, config: RunConfig) -> Precision:
        """The run's precision as this device computes it."""
        return Precision(config.precision, self.torch_device.type)

    def adopt(self, model: torch.nn.Module) -> None:
        """Put a model's weights on the device: first quantised ones, whose scales `Module.to` would lose."""
        for layer, _ in list(quantised_parameters(model)):
            layer.weight = layer.weight.to(self.torch_device)
        model.to(self.torch_device)

    def batches(self, loader: Iterable[T]) -> Iterable[T]:
        """The loader's batches, or what was made of them, on the host."""
        return loader

    def place(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch on the device; the copy may overlap with compute."""
        return {name: tensor.to(self.torch_device, non_blocking=True) for name, tensor in batch.items()}

    def host(self, config: RunConfig) -> Host:
        """Where this device's tensors may wait."""
        return HostMemory(pinned=config.dataloader_pin_memory and self.pins_memory)

    @abstractmethod
    def mark(self) -> Any:
        """A point in the device's time, without waiting for it."""

    @abstractmethod
    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between two marks that the device has passed."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""

    @abstractmethod
    def memory(self) -> Memory:
        """The memory numbers now, and their peaks since `reset_peaks`."""

    def memory_if_known(self) -> Memory:
        """As `memory`; without figures where the device no longer answers, as after a CUDA error. Never raises."""
        try:
            return self.memory()
        except Exception:  # the error that broke the device is told by the run
            return Memory(total=self.info.memory_total)

    @abstractmethod
    def reset_peaks(self) -> None:
        """Peaks are per run: called once at its start."""

    @abstractmethod
    def is_out_of_memory(self, error: BaseException) -> bool:
        """True for an error that means that this device's memory did not suffice."""

    def describe_out_of_memory(self, error: BaseException) -> str:
        """What was asked and what was free, from the error's own text: PyTorch goes on to suggest settings."""
        line = first_line(error)
        end = line.find(" is free.")
        return line[: end + len(" is free.")] if end >= 0 else line[:300]

    def explain(self, error: BaseException) -> str | None:
        """Why a run failed and what to do, where the device knows more than the error says; else None."""
        return None

    def clean_up(self) -> None:
        """Give memory back between runs. Call it outside any `except`, with the run's references dropped."""
        gc.collect()
        heap.give_back()
