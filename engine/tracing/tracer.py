"""The one accounting core: every tensor storage's birth and death, as CUDA's caching allocator would see them.

Two feeds use it: a training step on meta tensors (the forecast) and a real run on CPU tensors (the virtual GPU).
What the tracer sees goes to a `Sink`: a recorder or a live allocator. Where kernels on CUDA hold other memory than
those on CPU and meta, `engine.tracing.kernels` says so; autograd's own differences are corrected here.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.contract.forecast_types import (
    ACTIVATIONS,
    GRADIENTS,
    INPUTS,
    KV_CACHE,
    LIBRARIES,
    OPTIMIZER,
    TEMPORARIES,
    UNIFIED,
    WEIGHTS,
)
from engine.contract.records import Phase
from engine.tracing.answers import FORWARDS
from engine.tracing.own_part import own_part
from engine.tracing.quantised import quantised_parameters
from engine.tracing.scratch import Rule, Scratch, Step
from engine.tracing.unified import UNIFIED_ZEROS

if TYPE_CHECKING:
    from engine.tracing.divided import Divided

aten = torch.ops.aten

MATMULS = frozenset({aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default})
"""Operators that run in cuBLAS, whose first use in a thread allocates the handle's workspace."""

_ALL_REDUCE = torch.ops.c10d.allreduce_.default
_FORWARDS = frozenset((Phase.FORWARD, *FORWARDS))
_UNIQUE_STORAGE_COUNT = 2
"""References to a storage that one tensor owns alone: the tensor's, and that of the Python object that counts."""


class Sink(Protocol):
    """Where births and deaths go. Handles are the sink's own."""

    def allocate(self, size: int, category: str, stream: int = 0) -> int | None:
        """A storage of `size` bytes was born; None where it is not in the allocator (`UNIFIED`).

        May raise `torch.OutOfMemoryError`.
        """

    def allocate_by(self, rule: Rule, category: str) -> int | None:
        """As `allocate`, by a rule; None where it says 0."""

    def free(self, handle: int) -> None:
        """The storage died."""

    def recategorize(self, handle: int, category: str) -> None:
        """What the storage holds is known better now."""


class _Storage(weakref.ref[torch.UntypedStorage]):
    """A live storage that is accounted under `handle`; None once another storage stands for its memory."""

    __slots__ = ("handle", "key", "size")

    key: int
    handle: int | None
    size: int


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Accounts for the tensors on `device_type` that operators make while it is active.

    Deaths are queued and told to the sink before the next birth: the garbage collector may run anywhere, also
    inside the sink. `workspaces` are the sizes in bytes of those of cuBLAS and cuBLASLt (0: none). Not thread-safe: one
    run, one thread.
    """

    def __init__(self, sink: Sink, device_type: str, *, workspaces: tuple[int, int] = (0, 0)) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = Phase.LOAD
        self.scratch: Mapping[Any, Scratch] = {}
        """By operator: what its CUDA kernel allocates and frees again."""
        self.observe: Callable[[Any, tuple[Any, ...], Any], None] | None = None
        """Told of every operator with its arguments and result: the forecast counts its work."""
        self._sink = sink
        self._device_type = device_type
        self._workspace, self._lt_workspace = workspaces
        self._has_workspace: set[bool] = set()  # False: the forward's thread has its own, True: autograd's
        self._live: dict[int, _Storage] = {}
        self._dead: deque[_Storage] = deque()
        self._born: list[_Storage] = []  # in this optimizer phase
        self.watches_gradients = True
        """False where gradients that arrive were made by operators that were not traced."""
        self._suspended = 0
        self._made: str | None = None
        # by an operator's id, as its own hash is slow and it lives as long as the process: whether it returns a view,
        # whether it runs in cuBLAS, its scratch
        self._known: dict[int, tuple[bool, bool, Scratch | None]] = {}
        self.divided: Divided | None = None
        """What is to know of a model that is divided among ranks."""
        self.in_dropout = False
        """Inside a dropout, whose random tensor CUDA keeps as one byte per element."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether to call every operator through a guard against torch.compile, which is no part of a traced run."""
        return False

    # what runs tell

    def enter(self, phase: Phase) -> None:
        """The run goes over to `phase`. What an optimizer step leaves behind is optimizer state."""
        self.drain()
        if self.phase is Phase.OPTIMIZER:
            for storage in self._born:
                if storage.handle is not None and storage() is not None:
                    self._sink.recategorize(storage.handle, OPTIMIZER)
            self._born = []
        self.phase = phase

    def account(
        self, tensor: torch.Tensor, category: str, rule: Rule | None = None, n_bytes: int | None = None
    ) -> None:
        """Account for a tensor that no traced operator made, such as a weight; again for the same one does nothing.

        `rule` says its size where that does not grow evenly with batch and length, `n_bytes` where it is not its own.
        """
        if self.divided is not None:
            tensor = own_part(tensor)
        storage = tensor.untyped_storage()
        if not self._is_live(storage):
            self._bear(storage, storage.nbytes() if n_bytes is None else n_bytes, category, rule)

    def size_of(self, tensor: torch.Tensor) -> int:
        """Bytes that the GPU's kernels have for it: a mask's are fewer than its own."""
        storage, own = tensor.untyped_storage(), tensor.numel() * tensor.element_size()
        known = self._live.get(storage._cdata)
        if known is None or known() is None or known.size == storage.nbytes():
            return own
        return own * known.size // storage.nbytes()

    def account_model(self, model: torch.nn.Module) -> list[Any]:
        """The weights and buffers, in the order in which `Module.to` puts them on a device.

        The hooks that it returns tell gradients from other tensors; remove them when tracing ends. Of a model that is
        divided among ranks, this one's part.
        """
        for _, tensors in quantised_parameters(model):  # they are moved first
            for tensor in tensors:
                self.account(tensor, WEIGHTS)
        for module in _post_order(model, set()):
            for held in (*module._parameters.values(), *module._buffers.values()):
                if held is not None:
                    self.account(held, WEIGHTS)
        trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
        hooks: list[Any] = [p.register_post_accumulate_grad_hook(self._gradient_arrived) for p in trained]  # type: ignore[no-untyped-call]
        if self.divided is not None:
            from engine.tracing.divided import Gathered

            hooks.append(Gathered(model, self._is_weight, self._gradient_arrived))
        return hooks

    @contextmanager
    def dividing(self) -> Iterator[None]:
        """Around a run, or a trace, of a model that FSDP divides among ranks."""
        from engine.tracing.divided import Divided, watching_storages

        self.divided = Divided()
        with watching_storages(self._resized):
            yield

    @contextmanager
    def visit(self, weights: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor]) -> Iterator[None]:
        """Around the dividing of `weights`, which are there whole meanwhile; the buffers stay."""
        for tensor in (*weights, *buffers):
            self.account(tensor, WEIGHTS)
        yield
        self.drain()
        for tensor in weights:
            known = self._live.pop(tensor.untyped_storage()._cdata, None)
            if known is not None and known.handle is not None:
                self._sink.free(known.handle)
                known.handle = None

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are keys and values that are kept for the tokens to come."""
        for tensor in tensors:
            self._is(tensor, KV_CACHE)

    @contextmanager
    def making(self, category: str) -> Iterator[None]:
        """What operators inside make is of this category."""
        self._made = category
        try:
            yield
        finally:
            self._made = None
            self.drain()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Operators inside are not accounted for, nor is what they make."""
        self._suspended += 1
        try:
            yield
        finally:
            self._suspended -= 1

    def use_scratch(self, *steps: Step) -> None:
        """Scratch memory that a kernel holds while it runs; what is not freed by a step is freed in the end."""
        self._give_back(self._taken(steps))

    @contextmanager
    def holding(self, *steps: Step) -> Iterator[None]:
        """Around a kernel that makes its results while it holds scratch memory."""
        handles = self._taken(steps)
        yield
        self._give_back(handles)

    def _taken(self, steps: Sequence[Step]) -> list[int | None]:
        if self._suspended:
            return []
        self.drain()
        handles: list[int | None] = []
        for step in steps:
            if not isinstance(step, int):
                handles.append(self._sink.allocate_by(step, TEMPORARIES))
            elif step >= 0:
                handles.append(self._sink.allocate(step, TEMPORARIES) if step else None)
            else:
                self._release(handles, -step - 1)
        return handles

    def _give_back(self, handles: list[int | None]) -> None:
        for index in reversed(range(len(handles))):
            self._release(handles, index)

    def _release(self, handles: list[int | None], index: int) -> None:
        handle, handles[index] = handles[index], None
        if handle is not None:
            self._sink.free(handle)

    def drain(self) -> None:
        """Tell the sink of the deaths so far."""
        while self._dead:
            storage = self._dead.popleft()
            if self._live.get(storage.key) is storage:
                del self._live[storage.key]
            if storage.handle is not None:
                self._sink.free(storage.handle)

    def forget(self) -> None:
        """Stop accounting for what is alive: it is no longer this tracer's."""
        self._live.clear()
        self._dead.clear()
        self._born = []

    def _resized(self, storage: torch.UntypedStorage) -> None:
        """A storage has grown, or shrunk, in place: whole weights come and go so."""
        if storage.device.type != self._device_type:
            return
        known = self._live.get(storage._cdata)
        if known is not None and known() is not None and known.handle is not None:
            self.drain()
            self._sink.free(known.handle)
            known.handle, known.size = None, 0
        if storage.nbytes() and self.watches_gradients and not self._suspended:
            self._bear(storage, storage.nbytes(), WEIGHTS)

    # what torch tells

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if types and self.divided is not None:
            if self.divided.is_divided(types):
                return NotImplemented  # it comes again with what this rank holds
            if self.divided.is_asked(types):
                return func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():  # a function mode would see every attribute that is read below
            return self._traced(func, args, kwargs)

    def _traced(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        result = self._run(func, args, kwargs or {})
        if self._suspended:
            return result
        if self.observe is not None:
            self.observe(func, args, result)
        aliases, is_matmul, scratch = self._known.get(id(func)) or self._learn(func)
        if aliases:
            return result
        if func is _ALL_REDUCE and self.phase is Phase.BACKWARD:  # DDP's buckets: the first forward but one makes them
            for bucket in args[0]:
                self._is(bucket, GRADIENTS)
        if func is aten.add.Tensor and self._accumulates(args, kwargs, result):
            return result
        if func is UNIFIED_ZEROS:
            self.account(result, UNIFIED)
            return result
        self.drain()
        is_mask = self.in_dropout and func is aten.empty_like.default
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, is_mask)
            elif isinstance(tensor, (tuple, list)):
                for inner in tensor:
                    if isinstance(inner, torch.Tensor):
                        self._see(inner)
        if is_matmul and self._workspace:
            self._first_matmul(func)
        if scratch is not None:
            self.use_scratch(*scratch(*args))
        return result

    def _learn(self, func: Any) -> tuple[bool, bool, Scratch | None]:
        aliases = any(value.alias_info is not None for value in func._schema.returns)
        known = self._known[id(func)] = aliases, func in MATMULS, self.scratch.get(func)
        return known

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def _see(self, tensor: torch.Tensor, is_mask: bool = False) -> None:
        if tensor.device.type != self._device_type:
            return
        if self.divided is not None and self.divided.is_asked((type(tensor),)):
            return
        storage = tensor.untyped_storage()
        if not self._is_live(storage):
            self._bear(storage, tensor.numel() if is_mask else storage.nbytes(), self._category())

    def _is_live(self, storage: torch.UntypedStorage) -> bool:
        known = self._live.get(storage._cdata)
        return known is not None and known() is not None

    def _bear(self, storage: torch.UntypedStorage, size: int, category: str, rule: Rule | None = None) -> None:
        self.drain()
        if rule is not None:
            handle = self._sink.allocate_by(rule, category)
        else:
            stream = self.divided.stream if self.divided is not None else 0
            if stream:
                category = TEMPORARIES  # what ranks send each other
            handle = self._sink.allocate(size, category, stream) if size else None
        self._remember(storage, handle, size, category)

    def _remember(self, storage: torch.UntypedStorage, handle: int | None, size: int, category: str = "") -> None:
        known = _Storage(storage, self._dead.append)
        known.key, known.handle, known.size = storage._cdata, handle, size
        self._live[known.key] = known
        if self.phase is Phase.OPTIMIZER and category != UNIFIED:
            self._born.append(known)

    def _category(self) -> str:
        if self._made is not None:
            return self._made
        if self.phase in _FORWARDS or (self.phase is Phase.BACKWARD and torch.is_grad_enabled()):
            return ACTIVATIONS  # autograd runs without gradients, except where a checkpoint is replayed
        return {Phase.LOAD: WEIGHTS, Phase.DATA: INPUTS}.get(self.phase, TEMPORARIES)

    def _accumulates(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None, result: torch.Tensor) -> bool:
        """Autograd adds gradients in place when it holds the last reference; but under a dispatch mode it never does.

        (`can_accumulate_inplace` in torch/csrc/autograd/input_buffer.cpp, and accumulate_grad.h before torch 2.9.)
        Then the sum takes over the memory of the gradient that came first. A view, such as the transposed gradient
        of a linear layer's tied weight, shares its memory with its base: there the sum is new.
        """
        if kwargs or torch._C._current_graph_task_id() < 0 or torch.is_grad_enabled():
            return False
        for tensor in args[:2]:
            if not isinstance(tensor, torch.Tensor) or tensor.device.type != self._device_type:
                return False
        storage = args[0].untyped_storage()
        known = self._live.get(storage._cdata)
        if known is None or known.handle is None or known.size != result.untyped_storage().nbytes():
            return False
        is_last = torch._C._storage_Use_Count(storage._cdata) <= _UNIQUE_STORAGE_COUNT
        if not is_last and not _is_parameter_grad():
            return False
        self._remember(result.untyped_storage(), known.handle, known.size)
        known.handle = None
        return True

    def _first_matmul(self, func: Any) -> None:
        in_autograd = torch._C._current_graph_task_id() >= 0
        if in_autograd not in self._has_workspace:
            self._has_workspace.add(in_autograd)
            self._sink.allocate(self._workspace, LIBRARIES)
        if func is aten.addmm.default and self._lt_workspace:  # a linear layer with a bias
            self._sink.allocate(self._lt_workspace, LIBRARIES)
            self._lt_workspace = 0

    def _is_weight(self, tensor: torch.Tensor) -> None:
        self._is(tensor, WEIGHTS)

    def _gradient_arrived(self, parameter: torch.Tensor) -> None:
        if not self.watches_gradients or parameter.grad is None:
            return
        self._is(parameter.grad if self.divided is None else own_part(parameter.grad), GRADIENTS)

    def _is(self, tensor: torch.Tensor, category: str) -> None:
        known = self._live.get(tensor.untyped_storage()._cdata)
        if known is not None and known.handle is not None:
            self._sink.recategorize(known.handle, category)


def _is_parameter_grad() -> bool:
    return type(torch._C._current_autograd_node()).__name__ == "AccumulateGrad"


def _post_order(module: torch.nn.Module, seen: set[int]) -> Iterator[torch.nn.Module]:
    for child in module.children():
        yield from _post_order(child, seen)
    if id(module) not in seen:
        seen.add(id(module))
        yield module
