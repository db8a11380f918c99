"""Trainers that tell more than a loop shows: transformers' and Lightning's, through callbacks of their own."""

import functools

from _traintop_inside.waiting import when_imported

_MOST = 40
"""Figures of one log that are told."""


def begin(wire, safely):
    """Hook them when they are imported."""
    when_imported("transformers.trainer", lambda module: _of_transformers(module, wire, safely))
    for name in ("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer"):
        when_imported(name, lambda module: _of_lightning(module, wire, safely))


def _of_transformers(module, wire, safely):
    from transformers.trainer_callback import TrainerCallback

    class Told(TrainerCallback):
        """Tells what the Trainer logs."""

        def on_train_begin(self, args, state, control, **kwargs):
            begins(args, state)

        def on_log(self, args, state, control, logs=None, **kwargs):
            logged(state.global_step, state.epoch, logs or {})

    @safely
    def begins(args, state):
        wire.tell(
            "plan",
            by="transformers",
            updates=state.max_steps,
            epochs=args.num_train_epochs,
            batch_size=args.per_device_train_batch_size,
            gradient_accumulation_steps=args.gradient_accumulation_steps,
        )

    @safely
    def logged(step, epoch, logs):
        wire.tell("log", by="transformers", update=step, epoch=epoch, figures=_numbers(logs))

    _after_init(module.Trainer, lambda trainer: trainer.add_callback(Told), safely)


def _of_lightning(module, wire, safely):
    from importlib import import_module

    callback = import_module(module.__name__.partition(".trainer")[0] + ".callbacks").Callback

    class Told(callback):
        """Tells what was logged to the progress bar or a logger, at every update that logs."""

        def on_train_start(self, trainer, module):
            begins(trainer)

        def on_train_batch_end(self, trainer, module, *args, **kwargs):
            logged(trainer)

        def on_validation_end(self, trainer, module):
            logged(trainer)

    @safely
    def begins(trainer):
        batches = trainer.num_training_batches
        known = isinstance(batches, int) and isinstance(trainer.max_epochs, int) and trainer.max_epochs > 0
        updates = -(-batches // trainer.accumulate_grad_batches) * trainer.max_epochs if known else None
        if trainer.max_steps > 0:
            updates = min(updates or trainer.max_steps, trainer.max_steps)
        wire.tell(
            "plan",
            by="lightning",
            updates=updates,
            epochs=trainer.max_epochs,
            batch_size=None,
            gradient_accumulation_steps=trainer.accumulate_grad_batches,
        )

    told = [-1]

    @safely
    def logged(trainer):
        if trainer.global_step == told[0]:
            return
        told[0] = trainer.global_step
        # numbers on a device would be waited for
        figures = {name: each for name, each in trainer.callback_metrics.items() if each.device.type == "cpu"}
        if figures:
            wire.tell(
                "log",
                by="lightning",
                update=trainer.global_step,
                epoch=trainer.current_epoch,
                figures=_numbers(figures),
            )

    _after_init(module.Trainer, lambda trainer: trainer.callbacks.append(Told()), safely)


def _after_init(kind, add, safely):
    original, add = kind.__init__, safely(add)

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        add(self)

    kind.__init__ = init


def _numbers(logs):
    numbers = {}
    for name, value in list(logs.items())[:_MOST]:
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers
