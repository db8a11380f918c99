"""What is seen in one process, update by update, and told.

An update is a step of the optimizer that counts. Its loss is what `backward` was called on, before a gradient scaler
scaled it. Each thread has times and losses of its own, so that one that evaluates or loads does not mix with another.
"""

import functools
import threading
import time
import weakref
from collections import deque

from _traintop_inside import errors, memory
from _traintop_inside.batches import Batches, size_of
from _traintop_inside.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER
from _traintop_inside.model import Calls, root_of
from _traintop_inside.optimizers import Optimizers, parameters_of
from _traintop_inside.rows import Later, Row
from _traintop_inside.update import Update
from _traintop_inside.values import Values

_TELL_S = 0.1
"""Between two messages about updates."""
_HELD_S = 5.0
"""Between two looks at what is held, after the first updates."""
_ENOUGH_S = 2.0
"""That a process which has made all the updates that it is run for waits to be interrupted."""
_MOST_PENDING = 1024
"""Messages whose numbers the device has not computed yet; beyond that they are told without."""


class Looking:
    """Of one process, whatever it does one after the other."""

    def __init__(self, torch):
        self._torch, self._wire, self._most, self._is_child = torch, None, None, False
        self._is_grad_enabled = torch.is_grad_enabled
        self._task = getattr(torch._C, "_current_graph_task_id", None) or (lambda: -1)
        self.is_on = False
        """Whether there is somebody who listens, and nothing went wrong."""
        self.calls = Calls(self)
        self._anew()

    def _anew(self):
        self._values = Values(self._torch)
        self._threads = _Threads(self._torch)
        self._batches = Batches()
        self._optimizers = Optimizers()
        self._updates, self._followed = 0, None
        self._waiting, self._told_at = deque(), 0.0
        self._held, self._held_at = {}, 0.0
        self._backward_by = None
        self.adds_up = False
        """Whether the losses of an update's micro-steps are parts of it, as a trainer has said."""

    def begin(self, wire, most=None):
        """Tell over this wire, from now on. `most`: the updates that it is run for."""
        self._anew()
        errors.go_on()
        self._wire, self._most = wire, most
        wire.greet()
        self.is_on = wire.on

    def end(self):
        """Tell what is left, and how it ended."""
        if not self.is_on:
            return
        try:
            self._tell(at_once=True, last=True)
            if self._updates or not self._is_child:
                self._wire.tell("end", **self._ending())
        except Exception as error:
            self._wire.switch_off(error)
        self.is_on = False
        self._wire.close()

    def forked(self):
        """This is a fork's child: nothing was seen of it."""
        if self.is_on:
            self._is_child = True
            self._wire.renew()
            self._anew()

    def safely(self, look):
        """`look`, which does nothing once something went wrong."""

        @functools.wraps(look)
        def looked(*args):
            if self.is_on:
                try:
                    look(*args)
                except Exception as error:
                    self.fail(error)

        return looked

    def fail(self, error):
        """Something went wrong in here: say so, and look away."""
        self.is_on = False
        self._wire.switch_off(error)

    # what happens ---------------------------------------------------------------------------------------------

    def train(self, *, adds_up=False):
        """A trainer begins: what was before, such as a trial of the evaluation, is no part of it."""
        self._threads.update.clock.stop()
        self.adds_up = adds_up

    def pause(self):
        """Nothing of the script runs until now, as between two cells of a notebook."""
        self._threads.update.clock.pause()

    def made(self, optimizer):
        """An optimizer was made."""
        self._optimizers.made(optimizer)

    def before_data(self, iterator):
        """A loader is asked for a batch."""
        update = self._threads.update
        if self._batches.asked(iterator) and not update.has_trained:
            update.clock.stop()  # what was before was a look at the data
        update.clock.enter(DATA)

    def no_data(self):
        """It has no more."""
        self._threads.update.clock.enter(OTHER)

    def after_data(self, batch):
        """Here it is."""
        self._batches.fetched(self._size(batch))
        self._threads.update.clock.enter(FORWARD if self._is_grad_enabled() else OTHER)

    def called(self, module, args, kwargs):
        """The model is."""
        update = self._threads.update
        if module.training and self._is_grad_enabled():
            if not self._batches.are_waiting:
                update.called = self._size(kwargs if "input_ids" in kwargs or not args else args)
            update.clock.enter(FORWARD)
        else:
            update.clock.enter(OTHER)

    def _size(self, batch):
        try:
            return size_of(self._torch, batch)
        except Exception:  # one of the script's own kinds, which does not like to be looked at
            return None, None

    def scaled(self, scaled, loss):
        """A gradient scaler has scaled a loss."""
        if self.is_tensor(scaled) and self.is_tensor(loss):
            self._threads.update.note_scaled(scaled, self._values.of(loss), loss)

    def before_backward(self, tensors):
        """`backward` is called."""
        update = self._backward_by = self._threads.update
        update.has_trained = True
        if isinstance(tensors, (list, tuple)):
            tensors = tensors[0] if len(tensors) == 1 else None
        if self.is_tensor(tensors):
            update.add_loss(self._values, tensors)
        update.add_batch(*self._batches.take())
        update.micro_steps += 1
        update.clock.enter(BACKWARD)

    def after_backward(self):
        """It returned."""
        self._backward_by = None
        self._threads.update.clock.enter(OPTIMIZER)

    def clipped(self, norm):
        """Gradients were clipped."""
        self._stepping().norm = self._values.of(norm)

    def before_scaler(self, scaler, optimizer, *args):
        """A gradient scaler is asked to step."""
        update = self._threads.update
        # what only stands in for an optimizer, as fastai's callback does, is none that would step
        update.stepped = not isinstance(optimizer, self._torch.optim.Optimizer)
        update.scale = self._values.of(getattr(scaler, "_scale", None))

    def after_scaler(self, result, scaler, optimizer, *args):
        """It has, unless gradients were infinite."""
        update = self._threads.update
        if not update.stepped and update.scale is not None and self._optimizers.counts(optimizer):
            update.skipped = True
            self._end_update(optimizer, update)

    def before_step(self, optimizer, args, kwargs):
        """An optimizer steps."""
        update = self._stepping()
        update.stepped = True
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        update.clock.enter(OPTIMIZER if closure is None else FORWARD)  # which comes with backward in the closure
        found_inf = getattr(optimizer, "found_inf", None)  # a fused one skips by itself
        if found_inf is not None:
            update.skipped = self._values.of(found_inf)
        if self._is_time():
            self._held["gradients"] = memory.gradients(self._with(optimizer))

    def after_step(self, optimizer, args, kwargs):
        """It has."""
        if self._optimizers.counts(optimizer):
            self._end_update(optimizer, self._stepping())

    def _stepping(self):
        """Of the thread whose update it is: where an optimizer steps within a backward, of the one that called that."""
        update = self._backward_by
        return self._threads.update if update is None or self._task() == -1 else update

    def _end_update(self, optimizer, update):
        self._updates += 1
        errors.go_on()
        if optimizer is not self._follows() or self._is_time():
            self._look_at_held(optimizer)
        lr = optimizer.param_groups[0].get("lr")
        lr = self._values.of(lr) if self.is_tensor(lr) else lr and float(lr)
        phase = BACKWARD if update is self._backward_by else OTHER
        self._waiting.append(update.cut(self._updates, lr, adds_up=self.adds_up, phase=phase))
        if self._updates == self._most:
            self._tell_enough()
        else:
            self._tell()

    def _tell_enough(self):
        """Tell all when the device has computed it, and make no further update before the interrupt comes."""
        until = time.perf_counter() + _ENOUGH_S
        while self.is_on and time.perf_counter() < until:
            self._tell(at_once=True)
            time.sleep(0.01)

    # telling --------------------------------------------------------------------------------------------------

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
        if optimizer is self._follows():
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
        self._tell(at_once=True)

    def is_tensor(self, value):
        """Whether it is one of torch's."""
        return isinstance(value, self._torch.Tensor)

    def tell(self, kind, **values):
        """A message that waits for nothing."""
        self._wire.tell(kind, **values)

    def _tell(self, *, at_once=False, last=False):
        """Tell what is there, ten times a second: all together costs an update less than each by itself."""
        waiting, now = self._waiting, time.perf_counter()
        if not at_once and self._updates > 2 and now - self._told_at < _TELL_S:
            return
        self._told_at, rows = now, []
        while waiting and (last or waiting[0].is_there or len(waiting) > _MOST_PENDING):
            told = waiting.popleft()
            if isinstance(told, Row):
                rows.append(told.as_json())
            else:
                self._tell_rows(rows)
                rows = []
                self._wire.tell("log", **told.read())
        self._tell_rows(rows)
        self._wire.push()
        self.is_on = self._wire.on

    def _tell_rows(self, rows):
        if rows:
            self._wire.tell("updates", rows, held=self._held, memory=memory.of_allocator(self._torch))

    def _ending(self):
        update, torch = self._threads.update, self._torch
        return {
            "updates": self._updates,
            "micro_steps": update.micro_steps,
            "phase": update.clock.phase,
            "held": self._held,
            "allocator": memory.of_allocator(torch),
            **errors.uncaught(torch),
        }


class _Threads(threading.local):
    """What is under way in each thread."""

    def __init__(self, torch):
        self.update = Update(torch)


def _place(torch):
    """Which of the processes that have formed a group this one is."""
    group = getattr(torch, "distributed", None)
    if group is None or not group.is_available() or not group.is_initialized():
        return {}
    return {"rank": group.get_rank(), "world_size": group.get_world_size()}
