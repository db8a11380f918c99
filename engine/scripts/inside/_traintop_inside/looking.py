"""The hooks: public or stable points of PyTorch, each wrapped so that a fault in here ends the looking, not the script.

An update is what an optimizer's step ends; of several optimizers the one with the most parameters counts. Its loss is
what `backward` was called on, before a gradient scaler scaled it: the mean over its micro-steps.
"""

import atexit
import functools
import gc
import sys
import time
import weakref

from _traintop_inside import frameworks, memory
from _traintop_inside.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, Clock
from _traintop_inside.values import Value, size_of

_TELL_S = 0.1
"""Between two messages about updates."""
_HELD_S = 5.0
"""Between two looks at what is held, after the first updates."""
_MOST_PENDING = 64
"""Updates whose numbers the device has not computed yet; beyond that they are told without."""


class Looking:
    """Of one process. `wire` takes what it sees."""

    def __init__(self, torch, wire):
        self._torch, self._wire = torch, wire
        self._clock = Clock(torch)
        self._updates = 0
        self._micro_steps = 0
        self._losses, self._norm = [], None
        self._batches, self._called = [], None
        self._samples = self._tokens = None
        self._pending, self._rows = [], []
        self._optimizer, self._sizes = None, {}
        self._root, self._held, self._held_at = None, {}, 0.0
        self._told_at = 0.0
        self._scaled = (None, None)
        self._in_backward = False

    def begin(self):
        """Hook all that is looked at."""
        torch = self._torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        register_optimizer_step_pre_hook(self._safely(self._before_step))
        register_optimizer_step_post_hook(self._safely(self._after_step))
        self._wrap_backward()
        self._around(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", self._before_data, self._after_data)
        self._around(torch.nn.utils, "clip_grad_norm_", None, self._after_clipping)
        for scaler in {torch.amp.GradScaler, torch.cuda.amp.GradScaler}:
            if "scale" in vars(scaler):
                self._around(scaler, "scale", None, self._after_scaling)
        frameworks.begin(self._wire, self._safely)
        atexit.register(self._at_exit)

    # wrapping -------------------------------------------------------------------------------------------------

    def _safely(self, look):
        """`look`, which does nothing once something went wrong, and in a fork's child."""

        @functools.wraps(look)
        def looked(*args, **kwargs):
            if self._wire.is_ours:
                try:
                    look(*args, **kwargs)
                except Exception as error:
                    self._wire.switch_off(error)

        return looked

    def _around(self, owner, name, before, after):
        """Look before and after a function. `after` is told its arguments and what it returned."""
        original = getattr(owner, name)
        before, after = before and self._safely(before), after and self._safely(after)

        @functools.wraps(original)
        def wrapped(*args, **kwargs):
            if before is not None:
                before()
            result = original(*args, **kwargs)
            if after is not None:
                after(args, result)
            return result

        setattr(owner, name, wrapped)

    def _wrap_backward(self):
        original = self._torch.Tensor.backward
        before, after = self._safely(self._before_backward), self._safely(self._after_backward)

        @functools.wraps(original)
        def backward(tensor, *args, **kwargs):
            if self._in_backward:  # of a checkpointed part, within the whole
                return original(tensor, *args, **kwargs)
            before(tensor)
            self._in_backward = True
            try:
                result = original(tensor, *args, **kwargs)
            finally:
                self._in_backward = False
            after()
            return result

        self._torch.Tensor.backward = backward

    # what happens ---------------------------------------------------------------------------------------------

    def _before_data(self):
        self._clock.enter(DATA)

    def _after_data(self, args, batch):
        self._batches = [*self._batches[-1:], size_of(self._torch, batch)]
        self._clock.enter(FORWARD)

    def _before_forward(self, module, args, kwargs):
        if module.training and self._torch.is_grad_enabled():
            self._clock.enter(FORWARD)
            self._called = size_of(self._torch, {**kwargs} or list(args))

    def _after_scaling(self, args, scaled):
        if isinstance(scaled, self._torch.Tensor) and isinstance(args[1], self._torch.Tensor):
            self._scaled = (weakref.ref(scaled), Value(self._torch, args[1]))

    def _before_backward(self, tensor):
        of_scaled, value = self._scaled
        if of_scaled is not None and of_scaled() is tensor:
            self._losses.append(value)
        elif tensor.numel() == 1:
            self._losses.append(Value(self._torch, tensor))
        self._scaled = (None, None)
        fetched = self._batches.pop(0) if self._batches else (None, None)  # one loop fetches a batch ahead
        n_samples, n_tokens = self._called or fetched
        self._called = None
        if n_samples is not None:
            self._samples = (self._samples or 0) + n_samples
        if n_tokens is not None:
            self._tokens = (self._tokens or 0) + n_tokens
        self._micro_steps += 1
        self._clock.enter(BACKWARD)

    def _after_backward(self):
        self._clock.enter(OPTIMIZER)

    def _after_clipping(self, args, norm):
        self._norm = Value(self._torch, norm) if isinstance(norm, self._torch.Tensor) else None

    def _before_step(self, optimizer, args, kwargs):
        self._clock.enter(OPTIMIZER)
        if self._counts(optimizer) and (self._updates < 2 or time.perf_counter() - self._held_at > _HELD_S):
            self._held = {**self._held, **memory.held_by(self._torch, optimizer)}

    def _after_step(self, optimizer, args, kwargs):
        if not self._counts(optimizer):
            return
        self._updates += 1
        if self._updates <= 2 or time.perf_counter() - self._held_at > _HELD_S:
            self._look_at_held(optimizer)
        self._pending.append(
            {
                "update": self._updates,
                "micro_steps": self._micro_steps,
                "losses": self._losses,
                "norm": self._norm,
                "lr": float(optimizer.param_groups[0]["lr"]),
                "samples": self._samples,
                "tokens": self._tokens,
                "span": self._clock.cut(),
            }
        )
        self._losses, self._norm, self._micro_steps = [], None, 0
        self._samples = self._tokens = None
        self._tell(time.perf_counter())

    def _counts(self, optimizer):
        """Whether this optimizer's steps are the updates."""
        if id(optimizer) not in self._sizes:
            self._sizes[id(optimizer)] = sum(
                each.numel() for group in optimizer.param_groups for each in group["params"]
            )
            largest = self._optimizer is None or self._sizes[id(optimizer)] > self._sizes[id(self._optimizer)]
            if largest:
                self._optimizer = optimizer
        return optimizer is self._optimizer

    # telling --------------------------------------------------------------------------------------------------

    def _look_at_held(self, optimizer):
        """The optimizer's states are there after its first step; then the model is looked for, too, once."""
        self._held_at = time.perf_counter()
        now = memory.held_by(self._torch, optimizer)
        self._held = {**self._held, "weights": now["weights"], "optimizer": now["optimizer"]}
        if self._updates != 1:
            return
        trained = [each for group in optimizer.param_groups for each in group["params"]]
        self._root = _root(self._torch, trained)
        if self._root is not None:
            self._held["frozen"] = memory.frozen(self._root, trained)
            if _is_hookable(self._torch, self._root):
                hook = self._safely(self._before_forward)
                self._root.register_forward_pre_hook(hook, with_kwargs=True)
        self._wire.tell(
            "model",
            optimizer=type(optimizer).__name__,
            model=None if self._root is None else type(self._root).__name__,
            trained=sum(each.numel() for each in trained),
            parameters=None if self._root is None else sum(each.numel() for each in self._root.parameters()),
            torch=str(self._torch.__version__),
            device=memory.device_of(self._torch),
        )

    def _tell(self, now, *, last=False):
        """Tell of the updates whose numbers are there, at most ten times a second."""
        while self._pending and (last or _is_there(self._pending[0]) or len(self._pending) > _MOST_PENDING):
            self._rows.append(_row(self._pending.pop(0)))
        if self._rows and (last or self._updates <= 2 or now - self._told_at >= _TELL_S):
            self._told_at = now
            self._wire.tell("updates", rows=self._rows, held=self._held, memory=memory.of_allocator(self._torch))
            self._rows = []
        else:
            self._wire.push_if_any()

    def _at_exit(self):
        if not self._wire.is_ours:
            return
        try:
            self._tell(time.perf_counter(), last=True)
            error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
            told = {"allocator": memory.of_allocator(self._torch), "held": self._held, "phase": self._clock.phase}
            if error is not None:
                told["error"] = f"{type(error).__name__}: {error}"[:2000]
                told["out_of_memory"] = isinstance(error, self._torch.OutOfMemoryError)
            self._wire.last("end", updates=self._updates, micro_steps=self._micro_steps, **told)
        except Exception as error:
            self._wire.switch_off(error)


def _is_there(update):
    values = [*update["losses"], *([update["norm"]] if update["norm"] is not None else ())]
    return update["span"].is_passed and all(value.is_there for value in values)


def _row(update):
    losses = [value.read() for value in update["losses"] if value.is_there]
    losses = [loss for loss in losses if loss is not None]
    passed = update["span"].is_passed
    shares, took = update["span"].seconds() if passed else ({}, None)
    norm = update["norm"]
    return {
        "update": update["update"],
        "t": update["span"].t,
        "micro_steps": update["micro_steps"],
        "loss": sum(losses) / len(losses) if losses else None,
        "lr": update["lr"],
        "grad_norm": norm.read() if norm is not None and norm.is_there else None,
        "samples": update["samples"],
        "tokens": update["tokens"],
        "seconds": took,
        "shares": shares,
    }


def _root(torch, trained):
    """The outermost module that has all of these parameters; None where there is none, or several."""
    wanted = {id(each) for each in trained}
    having = []
    for each in gc.get_objects():
        if issubclass(type(each), torch.nn.Module):
            try:
                own = {id(parameter) for parameter in each.parameters()}
            except Exception:  # one that is not whole yet, or a proxy
                continue
            if wanted <= own:
                having.append(each)
    inner = {id(part) for each in having for part in each.modules() if part is not each}
    outer = [each for each in having if id(each) not in inner]
    return outer[0] if len(outer) == 1 else None


def _is_hookable(torch, root):
    """Whether a hook on it leaves alone what torch.compile has made: a compiled module calls its hooks from outside."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None or type(root).__name__ == "OptimizedModule":
        return True
    return not dynamo.utils.counters["frames"]["total"]
