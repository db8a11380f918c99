"""A virtual GPU's memory: a live caching allocator behind real CPU tensors, and the end of tracing once it repeats."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import AllocatorOptions
from engine.allocator.report import AllocatorOutOfMemory
from engine.contract.forecast_types import GRADIENTS, INPUTS, KV_CACHE, LIBRARIES, OPTIMIZER, UNIFIED
from engine.contract.records import Memory, Phase
from engine.gpus.catalogue import Gpu
from engine.tracing.answers import FORWARDS, MOST_SETTLING, Event, KnownBatches, Moment, Traced
from engine.tracing.autocast import Autocast
from engine.tracing.half import CpuTracer
from engine.tracing.host import TracedHost
from engine.tracing.kernels import CudaKernels
from engine.tracing.quantised import as_on_cuda, cuda_paths
from engine.tracing.scratch import Rule
from engine.tracing.stack import CURRENT
from engine.tracing.unified import with_unified

Signature = tuple[tuple[object, ...], ...]
"""Of an update: the shapes of its micro-steps' batches, and whether they hide tokens from each other."""

MOST_WINDOWS = 4_096
"""Beginnings of windows that are remembered as repeating; those not met for longest are traced when they come again."""
MOST_LOGGED = 2**20
"""Births and deaths in all logs that are remembered, 8 bytes each; an update of bert-large has some 30,000."""


MOST_ALIKE = 3
"""Updates of equal sizes that are traced until they also lie where those of an earlier one lay."""


class RepeatingWindows:
    """How the windows that need no tracing begin. At most `most` beginnings, the ones met last.

    A window's shorter beginnings are met before its longer ones, and so forgotten before them: then it is traced whole.
    """

    def __init__(self, most: int = MOST_WINDOWS) -> None:
        self._most = most
        self._beginnings: OrderedDict[Signature, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._beginnings)

    def add(self, window: Signature) -> None:
        """From now on it is known."""
        for n in range(1, len(window) + 1):
            self._beginnings[window[:n]] = None
            self._beginnings.move_to_end(window[:n])
        while len(self._beginnings) > self._most:
            self._beginnings.popitem(last=False)

    def begins(self, window: Signature) -> bool:
        """Whether one that is known begins so."""
        if window not in self._beginnings:
            return False
        self._beginnings.move_to_end(window)
        return True


class WindowLogs:
    """The last log of each window, of the windows met last: at most `most` numbers, or one log."""

    def __init__(self, most: int = MOST_LOGGED) -> None:
        self._most = most
        self._logs: OrderedDict[Signature, array[int]] = OrderedDict()
        self._places: dict[Signature, set[int]] = {}
        self.held = 0
        """Numbers in all logs."""

    def repeats(self, window: Signature, log: list[int], places: int) -> bool:
        """Whether the window's last log was the same, and its blocks lie where they lay after some time.

        Until then segments may still be added. `log` takes the last one's place; `places` stands for all addresses.
        """
        now, before = array("q", log), self._logs.get(window)
        known = self._places.get(window, set()) if before == now else set()
        self.forget(window)
        self._logs[window] = now
        self._places[window] = known | {places}
        self.held += len(now)
        while self.held > self._most and len(self._logs) > 1:
            self.forget(next(iter(self._logs)))
        return before == now and (places in known or len(known) >= MOST_ALIKE)

    def forget(self, window: Signature) -> None:
        """Its log is not needed any more."""
        self.held -= len(self._logs.pop(window, ()))
        self._places.pop(window, None)


class LiveAllocator:
    """A sink of the tracer: what is alive, by category, on a card with `capacity` bytes for segments.

    Categories and peaks are plain numbers that any thread may read.
    """

    def __init__(self, capacity: int, total: int, options: AllocatorOptions) -> None:
        self._allocator = CachingAllocator(capacity, options, total=total, grows_down=CURRENT.grows_down)
        self._categories: dict[int, tuple[str, int]] = {}
        self._held: dict[str, int] = {}
        self._highest = 0
        self._at_highest: dict[str, int] = {}
        self.last_highest = 0
        """Allocated bytes at the highest moment of the last update."""
        self.last_categories: dict[str, int] = {}
        """The same by category."""
        self.log: list[int] = []
        """Sizes born and (negative) died since the update began: two equal updates have equal logs."""
        self._places = 0
        self.has_libraries = False
        self.unified = 0
        """Bytes beside it that the driver moves to the host where the card is full."""
        self.events: list[Event] | None = None
        """Where births and deaths are written down; None: nowhere."""

    reserved = property(lambda self: self._allocator.reserved)
    peak_reserved = property(lambda self: self._allocator.peak_reserved)
    peak_allocated = property(lambda self: self._allocator.peak_allocated)
    retries = property(lambda self: self._allocator.alloc_retries)

    def allocate(self, size: int, category: str, stream: int = 0) -> int | None:
        """Raises `torch.OutOfMemoryError` in PyTorch's own words."""
        if category == UNIFIED:
            self.unified += size
            return None
        try:
            address = self._allocator.alloc(size, stream)
        except AllocatorOutOfMemory as error:
            raise torch.OutOfMemoryError(str(error)) from None
        self.has_libraries |= category == LIBRARIES
        self._categories[address] = (category, size)
        self._held[category] = self._held.get(category, 0) + size
        self.log.append(size)
        if self.events is not None:
            self.events.append((address, size, category))
        self._places = hash((self._places, address))
        if self._allocator.allocated > self._highest:
            self._highest = self._allocator.allocated
            self._at_highest = self._held.copy()
        return address

    def allocate_by(self, rule: Rule, category: str) -> int | None:
        """As `allocate`, by a rule; None where it says 0."""
        size = rule.n_bytes
        return self.allocate(size, category) if size else None

    def free(self, handle: int) -> None:
        """Give a block back."""
        category, size = self._categories.pop(handle)
        self._held[category] -= size
        self.log.append(-size)
        if self.events is not None:
            self.events.append((handle, 0, category))
        self._allocator.free(handle)

    def recategorize(self, handle: int, category: str) -> None:
        """Count a block under another category."""
        old, size = self._categories[handle]
        self._categories[handle] = (category, size)
        self._held[old] -= size
        self._held[category] = self._held.get(category, 0) + size
        if self.events is not None:
            self.events.append((handle, -1, category))

    def end_update(self) -> tuple[list[int], int]:
        """The update's log, and a number for where it all lay; the next one's begin.

        Its highest moment becomes what is shown.
        """
        log, self.log = self.log, []
        places, self._places = self._places, 0
        self.last_highest, self.last_categories = self._highest, self._at_highest
        self._highest, self._at_highest = self._allocator.allocated, self._held.copy()
        return log, places

    def again(self, events: Sequence[Event]) -> int | None:
        """Let the same happen once more, but for what is there to stay; a number for where it all lay.

        None where the card has no room for it a second time: it has given all of it back then.
        """
        stays = _staying(events)
        self._places, alive = 0, dict[int, int]()
        try:
            for index, (address, size, category) in enumerate(events):
                if size > 0:
                    if index not in stays:
                        handle = self.allocate(size, category)
                        assert handle is not None
                        alive[address] = handle
                elif address in alive:
                    if size:
                        self.recategorize(alive[address], category)
                    else:
                        self.free(alive.pop(address))
        except torch.OutOfMemoryError:
            for handle in alive.values():
                self.free(handle)
            return None
        return self.end_update()[1]

    def show(self, moment: Moment) -> None:
        """What is shown from now on, in place of the last update."""
        self.last_highest, self.last_categories = moment

    def now(self) -> tuple[int, dict[str, int]]:
        """Allocated bytes, and by category: at the highest moment of the last update, or so far in the first one."""
        if self.last_highest >= self._highest:
            return self.last_highest, self.last_categories
        return self._highest, self._at_highest


def _staying(events: Sequence[Event]) -> set[int]:
    """Of these, the births of what does not die among them."""
    alive: dict[int, int] = {}
    for index, (address, size, _) in enumerate(events):
        if size > 0:
            alive[address] = index
        elif size == 0:
            alive.pop(address, None)
    return set(alive.values())


class LiveTracker:
    """Traces a run until its updates repeat, and again when shapes come that have not been traced.

    An update whose log equals that of the last one with the same shapes would allocate the same for ever: tracing
    costs a tenth or more of a small model's time, so it stops. `reserved` is flat by then. It goes on while the
    allocator has to give memory back and ask again, and with `autocast`: the tracer's modes are what casts as CUDA
    would.
    """

    def __init__(
        self, allocator: LiveAllocator, gpu: Gpu, autocast: Autocast | None, *, is_divided: bool = False
    ) -> None:
        """With `is_divided` the model is divided among ranks by FSDP."""
        self.allocator = allocator
        self._tracer = CpuTracer(allocator, "cpu", workspaces=CURRENT.workspaces(gpu.compute_capability))
        self._kernels = CudaKernels(self._tracer, gpu, autocast)
        self._autocast = autocast
        self._is_divided = is_divided
        self._may_stop = autocast is None
        self._modes = ExitStack()
        self._tracing = False
        self._model: torch.nn.Module | None = None
        self._hooks: list[Any] = []
        self._window: list[tuple[object, ...]] = []
        self._whole = True
        """Whether the update was traced from its first micro-step."""
        self._logs = WindowLogs()
        self._retries = 0
        """Of the allocator, up to the last update."""
        self._repeating = RepeatingWindows()
        self._phase = Phase.LOAD
        self._known_batches = KnownBatches()
        self._batch: Traced | None = None
        """Of answers, under way."""
        self._step = 0

    @property
    def is_tracing(self) -> bool:
        """False once updates repeat, until shapes come that have not been traced."""
        return self._tracing

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Around all tensor work of a run."""
        try:
            with self._tracer.dividing() if self._is_divided else nullcontext():
                yield
        finally:
            self._trace(False)
            for hook in self._hooks:
                hook.remove()
            self._hooks, self._model = [], None
            self._tracer.forget()

    def adopt(self, model: torch.nn.Module) -> None:
        """The model's weights go onto the GPU."""
        self._model = model
        self._tracer.paths = cuda_paths(self._tracer)
        self._hooks += [*self._tracer.account_model(model), *as_on_cuda(model, self._autocast)]

    @contextmanager
    def dividing(self, weights: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor]) -> Iterator[None]:
        """Around the dividing of `weights` among ranks: they go onto the GPU whole, and this rank's part stays."""
        self._trace(True)
        try:
            with self._tracer.visit(weights, buffers):
                yield
        finally:
            self._trace(False)

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Around the making of what gradients are shared by: DDP's buckets."""
        self._trace(True)
        try:
            with self._tracer.making(GRADIENTS):
                yield
        finally:
            self._trace(False)

    def adopt_states(self, states: Iterable[torch.Tensor]) -> None:
        """An optimizer's states are on the GPU; those that are a number each stay on the host."""
        for state in states:
            if state.dim():
                self._tracer.account(state, OPTIMIZER)

    @contextmanager
    def answering(self, kind: Hashable, is_whole: Callable[[], bool]) -> Iterator[None]:
        """Around the answering of a batch: batches of one `kind` make the same tensors, as far as they go.

        `is_whole` says in the end whether this one went as far as any can.
        """
        known = self._known_batches.get(kind)
        self._batch, self._step = known or Traced(), 0
        if known is None:
            self.allocator.events = self._batch.events
            self._trace(True)
        try:
            yield
            if self._phase in FORWARDS:  # of a classifier nothing follows on it
                self._end_step()
            if known is None:
                self._tracer.drain()
                if is_whole():
                    self._settle(kind, self._batch)
        finally:
            self.allocator.events = self._batch = None
            if self._may_stop:
                self._trace(False)

    def _settle(self, kind: Hashable, batch: Traced) -> None:
        """Go on as the batches to come will, until their blocks lie where they lay; then the kind is known."""
        self.allocator.events = None
        seen: set[int] = set()
        for _ in range(MOST_SETTLING):
            places = self.allocator.again(batch.events)
            if places is None:  # one of the next will have no room, and is to tell where
                return
            if places in seen:
                break
            seen.add(places)
        if batch.moments:
            self.allocator.show(batch.moments[-1])
        if self._may_stop:
            self._known_batches.add(kind, batch)

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are keys and values that are kept for the tokens to come."""
        if self._tracing:
            self._tracer.keep(tensors)

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are kept for the batches to come, whether this one is traced or not."""
        for tensor in tensors:
            self._tracer.account(tensor, KV_CACHE)
        self.keep(tensors)

    def _end_step(self) -> None:
        """A forward of a batch of answers has ended."""
        assert self._batch is not None
        if self._tracing:
            self._tracer.drain()
            self.allocator.end_update()
            self._batch.moments.append((self.allocator.last_highest, self.allocator.last_categories))
        elif (moment := self._batch.moment(self._step)) is not None:
            self.allocator.show(moment)
        self._step += 1

    def on_host(self) -> AbstractContextManager[None]:
        """Around tensor work that is the host's own."""
        return self._tracer.suspended()

    def host(self) -> TracedHost:
        """Where the GPU's tensors may wait."""
        return TracedHost(self._tracer, lambda: self._tracing)

    def enter(self, phase: Phase) -> None:
        """The run goes over to `phase`; after an optimizer step that is the border of an update."""
        before, self._phase = self._phase, phase
        if self._batch is not None:
            if self._tracing:
                self._tracer.enter(phase)
            if before in FORWARDS and phase is Phase.SAMPLE:
                self._end_step()
            return
        ended = before is Phase.OPTIMIZER and phase is Phase.DATA
        if self._tracing:
            self._tracer.enter(phase)
        if ended:
            self._end_update()

    def place(self, batch: dict[str, torch.Tensor]) -> None:
        """A batch goes onto the GPU: the moment to decide whether its micro-step is traced."""
        if self._batch is not None:
            self._account(batch)
            return
        kind = self._phase is Phase.EVALUATE, _hides(batch)
        shapes = (*kind, *((name, tuple(t.shape)) for name, t in batch.items()))
        self._window.append(shapes)
        known = self._repeating.begins(tuple(self._window))
        if known and self._tracing and len(self._window) == 1:
            self._trace(False)
        elif not known and not self._tracing:
            self._whole = len(self._window) == 1
            self._trace(True)
        self._account(batch)
        if self._phase is Phase.EVALUATE:
            if self._may_stop:
                self._repeating.add((shapes,))
            self._window = []

    def _account(self, batch: dict[str, torch.Tensor]) -> None:
        if self._tracing:
            for tensor in batch.values():
                self._tracer.account(tensor, INPUTS)

    def _end_update(self) -> None:
        signature, self._window = tuple(self._window), []
        if not self._tracing:
            return
        self._tracer.drain()
        log, places = self.allocator.end_update()
        before, self._retries = self._retries, self.allocator.retries
        if self._may_stop and self._logs.repeats(signature, log, places) and self._whole and self._retries == before:
            self._repeating.add(signature)
            self._logs.forget(signature)
        self._whole = True

    def _trace(self, on: bool) -> None:
        if on == self._tracing:
            return
        self._tracing = self._tracer.watches_gradients = on
        if not on:
            self._modes.close()
            return
        self._modes.enter_context(self._kernels)
        self._modes.enter_context(self._tracer)
        self._tracer.enter(self._phase)
        if self._model is not None:  # what an untraced part of the window left
            for parameter in self._model.parameters():
                if parameter.grad is not None:
                    self._tracer.account(parameter.grad, GRADIENTS)


def _hides(batch: dict[str, torch.Tensor]) -> bool:
    """Whether there is padding, or a row of several documents: models then build a mask."""
    mask, positions = batch.get("attention_mask"), batch.get("position_ids")
    if mask is not None:
        return not mask.numpy().all()
    return positions is not None and bool((positions.numpy()[:, 1:] == 0).any())


def memory_of(allocator: LiveAllocator, context: int, libraries: int, total: int) -> Memory:
    """The memory numbers of a virtual GPU as a real one would report them, in bytes."""
    outside = context + (libraries if allocator.has_libraries else 0)
    allocated, by_category = allocator.now()
    return Memory(
        used=with_unified(outside + allocator.reserved, allocator.unified, total),
        reserved=allocator.reserved,
        allocated=allocated,
        peak_used=with_unified(outside + allocator.peak_reserved, allocator.unified, total),
        peak_reserved=allocator.peak_reserved,
        peak_allocated=allocator.peak_allocated,
        total=total,
        alloc_retries=allocator.retries,
        by_category={name: size for name, size in by_category.items() if size},
    )
