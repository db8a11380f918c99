"""What is seen in one process, update by update, and told.

An update is a step of the optimizer that counts. Its loss is what `backward` was called on, before a gradient scaler
scaled it. Each thread has times and losses of its own, so that one that evaluates or loads does not mix with another.
"""

import functools
import threading
import time
import weakref

from _traintop_inside import errors, memory
from _traintop_inside.batches import Batches, size_of
from _traintop_inside.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER, Clock
from _traintop_inside.losses import Losses
from _traintop_inside.model import Calls, root_of
from _traintop_inside.optimizers import Optimizers, parameters_of
from _traintop_inside.rows import Later, Row
from _traintop_inside.values import Values

_TELL_S = 0.1
"""Between two messages about updates."""
_HELD_S = 5.0
"""Between two looks at what is held, after the first updates."""
_MOST_PENDING = 64
"""Messages whose numbers the device has not computed yet; beyond that they are told without."""


class Looking:
    """Of one process, whatever it does one after the other."""

    def __init__(self, torch):
        self._torch, self._wire, self._is_child = torch, None, False
        self._task = getattr(torch._C, "_current_graph_task_id", None) or (lambda: -1)
        self.calls = Calls(self.safely(self._called))
        self._anew()

    def _anew(self):
        self._values = Values(self._torch)
        self._here = _Here(self._torch)
        self._batches = Batches()
        self._optimizers = Optimizers()
        self._updates, self._followed = 0, None
        self._waiting, self._rows, self._told_at = [], [], 0.0
        self._held, self._held_at = {}, 0.0
        self._backward_by = None
        self.adds_up = False
        """Whether the losses of an update's micro-steps are parts of it, as a trainer has said."""

    def begin(self, wire):
        """Tell over this wire, from now on."""
        self._anew()
        self._wire = wire
        wire.greet()

    def end(self):
        """Tell what is left, and how it ended."""
        if self._wire is None or not self._wire.on:
            return
        try:
            self._tell(last=True)
            told = self._ending()
            if self._updates or not self._is_child:
                self._wire.tell("end", updates=self._updates, **told)
        except Exception as error:
            self._wire.switch_off(error)
        self._wire.close()

    def forked(self):
        """This is a fork's child: nothing was seen of it."""
        if self._wire is not None:
            self._is_child = True
            self._wire.renew()
            self._anew()

    def safely(self, look):
        """`look`, which does nothing once something went wrong."""

        @functools.wraps(look)
        def looked(*args, **kwargs):
            wire = self._wire
            if wire is not None and wire.on:
                try:
                    look(*args, **kwargs)
                except Exception as error:
                    wire.switch_off(error)

        return looked

    # what happens ---------------------------------------------------------------------------------------------

    def train(self, *, adds_up=False):
        """A trainer begins: what was before, such as a trial of the evaluation, is no part of it."""
        self._here.clock.stop()
        self.adds_up = adds_up

    def made(self, optimizer):
        """An optimizer was made."""
        self._optimizers.made(optimizer)

    def before_data(self, iterator):
        """A loader is asked for a batch."""
        here = self._here
        if self._batches.asked(iterator) and not here.has_trained:
            here.clock.stop()  # what was before was a look at the data
        here.clock.enter(DATA)

    def no_data(self):
        """It has no more."""
        self._here.clock.enter(OTHER)

    def after_data(self, batch):
        """Here it is."""
        self._batches.fetched(self._size(batch))
        self._here.clock.enter(FORWARD)

    def _size(self, batch):
        try:
            return size_of(self._torch, batch)
        except Exception:  # one of the script's own kinds, which does not like to be looked at
            return None, None

    def _called(self, module, args, kwargs):
        if module.training and self._torch.is_grad_enabled():
            here = self._here
            here.called = self._size(kwargs if "input_ids" in kwargs or not args else args)
            here.clock.enter(FORWARD)
        else:
            self._here.clock.enter(OTHER)

    def scaled(self, scaled, loss):
        """A gradient scaler has scaled a loss."""
        if isinstance(scaled, self._torch.Tensor) and isinstance(loss, self._torch.Tensor):
            self._here.note_scaled(scaled, self._values.of(loss), loss)

    def before_backward(self, tensors):
        """`backward` is called."""
        here = self._here
        self._backward_by = here
        here.has_trained = True
        here.add_loss(self._values, tensors)
        here.add_batch(self._batches.take())
        here.micro_steps += 1
        here.clock.enter(BACKWARD)

    def after_backward(self):
        """It returned."""
        self._backward_by = None
        self._here.clock.enter(OPTIMIZER)

    def clipped(self, norm):
        """Gradients were clipped."""
        self._stepping.norm = self._values.of(norm)

    def before_scaler(self, scaler, optimizer, *args, **kwargs):
        """A gradient scaler is asked to step."""
        here = self._here
        here.stepped = False
        here.scale = self._values.of(getattr(scaler, "_scale", None))

    def after_scaler(self, result, scaler, optimizer, *args, **kwargs):
        """It has, unless gradients were infinite."""
        here = self._here
        if not here.stepped and here.scale is not None and self._optimizers.counts(optimizer):
            here.skipped = True
            self._update(optimizer, here)

    def before_step(self, optimizer, args, kwargs):
        """An optimizer steps."""
        here = self._stepping
        here.stepped = True
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        here.clock.enter(OPTIMIZER if closure is None else FORWARD)  # which comes with backward in the closure
        found_inf = getattr(optimizer, "found_inf", None)  # a fused one skips by itself
        if found_inf is not None:
            here.skipped = self._values.of(found_inf)
        if self._is_time():
            self._held["gradients"] = memory.gradients(self._with(optimizer))

    def after_step(self, optimizer, args, kwargs):
        """It has."""
        if self._optimizers.counts(optimizer):
            self._update(optimizer, self._stepping)

    @property
    def _stepping(self):
        """The thread whose update it is: where an optimizer steps within a backward, the one that called that."""
        if self._backward_by is not None and self._task() != -1:
            return self._backward_by
        return self._here

    def _update(self, optimizer, here):
        self._updates += 1
        if optimizer is not self._follows or self._is_time():
            self._look_at_held(optimizer)
        lr = optimizer.param_groups[0].get("lr")
        row = here.cut(
            update=self._updates,
            lr=self._values.of(lr) if isinstance(lr, self._torch.Tensor) else lr and float(lr),
            adds_up=self.adds_up,
            phase=BACKWARD if here is self._backward_by else OTHER,
        )
        self._waiting.append(row)
        self._tell()

    # telling --------------------------------------------------------------------------------------------------

    @property
    def _follows(self):
        return None if self._followed is None else self._followed()

    def _is_time(self):
        return self._updates <= 2 or time.perf_counter() - self._held_at > _HELD_S

    def _with(self, optimizer):
        return {*self._optimizers.stepped, optimizer}

    def _look_at_held(self, optimizer):
        """The optimizer's states are there after its first step; then the model is looked for, too, once."""
        self._held_at = time.perf_counter()
        torch, optimizers = self._torch, self._with(optimizer)
        self._held.update(
            weights=memory.weights(optimizers),
            gradients=max(self._held.get("gradients", 0), memory.gradients(optimizers)),
            optimizer=memory.states(torch, optimizers),
        )
        if optimizer is self._follows:
            return
        self._followed = weakref.ref(optimizer)
        trained = parameters_of(optimizer)
        root = root_of(torch, trained)
        if root is not None:
            self._held["frozen"] = memory.frozen(root, [each for one in optimizers for each in parameters_of(one)])
            self.calls.follow(root)
        self._wire.tell(
            "model",
            optimizer=type(optimizer).__name__,
            model=None if root is None else type(root).__name__,
            trained=sum(each.numel() for each in trained),
            parameters=None if root is None else sum(each.numel() for each in root.parameters()),
            torch=str(torch.__version__),
            device=memory.device_of(torch),
            **_place(torch),
        )

    def logged(self, by, update, epoch, figures):
        """A trainer has logged figures: numbers, or tensors with one."""
        told = {"by": by, "update": update, "epoch": epoch}
        values = {name: self._values.of(each) if self.is_tensor(each) else each for name, each in figures.items()}
        self._waiting.append(Later(told, values))
        self._tell()

    def is_tensor(self, value):
        """Whether it is one of torch's."""
        return isinstance(value, self._torch.Tensor)

    def tell(self, kind, **values):
        """A message that waits for nothing."""
        self._wire.tell(kind, **values)

    def _tell(self, *, last=False):
        """Tell what is there, of updates at most ten times a second."""
        now, is_late = time.perf_counter(), len(self._waiting) > _MOST_PENDING
        while self._waiting and (last or is_late or self._waiting[0].is_there):
            told, is_late = self._waiting.pop(0), False
            if isinstance(told, Row):
                self._rows.append(told.read())
            else:
                self._tell_rows(now)
                self._wire.tell("log", **told.read())
        if last or self._updates <= 2 or now - self._told_at >= _TELL_S:
            self._tell_rows(now)
        else:
            self._wire.push()

    def _tell_rows(self, now):
        if self._rows:
            self._told_at = now
            self._wire.tell("updates", rows=self._rows, held=self._held, memory=memory.of_allocator(self._torch))
            self._rows = []

    def _ending(self):
        here, torch = self._here, self._torch
        told = {
            "micro_steps": here.micro_steps,
            "phase": here.clock.phase,
            "held": self._held,
            "allocator": memory.of_allocator(torch),
        }
        return {**told, **errors.uncaught(torch)}


class _Here(threading.local):
    """What one thread has done since its last update."""

    def __init__(self, torch):
        self._torch = torch
        self.clock, self._losses = Clock(torch), Losses(torch)
        self.has_trained = False
        self._anew()

    def _anew(self):
        self.micro_steps = 0
        self.norm = self.scale = self.called = None
        self.skipped, self.stepped = False, True
        self._scaled = None
        self._samples = self._tokens = None

    def note_scaled(self, scaled, value, loss):
        """What a loss was before it was scaled."""
        self._scaled = (weakref.ref(scaled), value, self._losses.divisor_of(loss))

    def add_loss(self, values, tensors):
        """That of a micro-step."""
        scaled, self._scaled = self._scaled, None
        tensor = tensors[0] if isinstance(tensors, (list, tuple)) and len(tensors) == 1 else tensors
        if scaled is not None and scaled[0]() is tensor:
            self._losses.add(*scaled[1:])
        elif isinstance(tensor, self._torch.Tensor) and tensor.numel() == 1:
            self._losses.add(values.of(tensor), self._losses.divisor_of(tensor))

    def add_batch(self, fetched):
        """The one that it was of: as a loader handed it out, or as the model was called with it."""
        called, self.called = self.called or (None, None), None
        samples, tokens = (called[n] if each is None else each for n, each in enumerate(fetched))
        if samples is not None:
            self._samples = (self._samples or 0) + samples
        if tokens is not None:
            self._tokens = (self._tokens or 0) + tokens

    def cut(self, *, update, lr, adds_up, phase):
        """End an update here."""
        losses, times = self._losses.cut(adds_up)
        row = Row(
            span=self.clock.cut(phase),
            losses=losses,
            times=times,
            lr=lr,
            norm=self.norm,
            scale=self.scale,
            skipped=self.skipped,
            known={
                "update": update,
                "micro_steps": self.micro_steps,
                "samples": self._samples,
                "tokens": self._tokens,
            },
        )
        self._anew()
        return row


def _place(torch):
    """Which of the processes that have formed a group this one is."""
    group = getattr(torch, "distributed", None)
    if group is None or not group.is_available() or not group.is_initialized():
        return {}
    return {"rank": group.get_rank(), "world_size": group.get_world_size()}
