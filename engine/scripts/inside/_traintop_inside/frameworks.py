"""Trainers that tell more than a loop shows, or step what is none of PyTorch's.

Transformers' and Lightning's tell through callbacks of their own; fastai has optimizers of its own.
"""

import functools
import time
from importlib import import_module

from _traintop_inside.waiting import when_imported

_MOST = 40
"""Figures of one log that are told."""
_LOG_S = 0.1
"""Between two logs that are told of a trainer that logs with every update."""


def begin(looking):
    """Hook them when they are imported."""
    when_imported("transformers.trainer", lambda module: _of_transformers(module, looking))
    for name in ("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer"):
        when_imported(name, lambda module: _of_lightning(module, looking))
    when_imported("fastai.optimizer", lambda module: _of_fastai(module, looking))


def _of_transformers(module, looking):
    from transformers.trainer_callback import TrainerCallback

    class Told(TrainerCallback):
        """Tells what the Trainer logs."""

        def on_train_begin(self, args, state, control, **kwargs):
            begins(args, state)

        def on_log(self, args, state, control, logs=None, **kwargs):
            logged(state, logs or {})

        def on_train_end(self, args, state, control, **kwargs):
            ends()

    @looking.safely
    def begins(args, state):
        looking.train(adds_up=True)  # it divides by the micro-steps, or by the tokens of all of them
        looking.tell(
            "plan",
            by="transformers",
            updates=state.max_steps,
            epochs=args.num_train_epochs,
            batch_size=args.per_device_train_batch_size,
            gradient_accumulation_steps=args.gradient_accumulation_steps,
        )

    @looking.safely
    def logged(state, logs):
        looking.logged("transformers", state.global_step, state.epoch, _numbers(looking, logs))

    @looking.safely
    def ends():
        looking.adds_up = False

    _after_init(module.Trainer, looking.safely(lambda trainer: trainer.add_callback(Told)))


def _of_lightning(module, looking):
    callback = import_module(module.__name__.partition(".trainer")[0] + ".callbacks").Callback
    told_at = [0.0]

    class Told(callback):
        """Tells what was logged to the progress bar or a logger."""

        def on_train_start(self, trainer, module):
            begins(trainer)

        def on_train_batch_end(self, trainer, module, *args, **kwargs):
            if time.perf_counter() - told_at[0] >= _LOG_S:
                logged(trainer)

        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking:
                logged(trainer)

        def on_train_end(self, trainer, module):
            logged(trainer)

    @looking.safely
    def begins(trainer):
        looking.train()
        batches, every = trainer.num_training_batches, trainer.accumulate_grad_batches
        known = isinstance(batches, int) and isinstance(trainer.max_epochs, int) and trainer.max_epochs > 0
        updates = -(-batches // every) * trainer.max_epochs if known else None
        if trainer.max_steps > 0:
            updates = min(updates or trainer.max_steps, trainer.max_steps)
        looking.tell(
            "plan",
            by="lightning",
            updates=updates,
            epochs=trainer.max_epochs,
            batch_size=None,
            gradient_accumulation_steps=every,
        )

    @looking.safely
    def logged(trainer):
        told_at[0] = time.perf_counter()
        figures = _numbers(looking, trainer.callback_metrics)
        if figures:
            looking.logged("lightning", trainer.global_step, trainer.current_epoch, figures)

    # before the others: those that save checkpoints stay the last
    _after_init(module.Trainer, looking.safely(lambda trainer: trainer.callbacks.insert(0, Told())))


def _of_fastai(module, looking):
    """Its optimizers, which have the groups and states of PyTorch's, and none of their hooks."""
    kind = module.Optimizer
    original = kind.step
    before, after = looking.safely(looking.before_step), looking.safely(looking.after_step)

    @functools.wraps(original)
    def step(self, *args, **kwargs):
        before(self, (self, *args), kwargs)
        result = original(self, *args, **kwargs)
        after(self, (self, *args), kwargs)
        return result

    _after_init(kind, looking.safely(looking.made))
    kind.step = step


def _after_init(kind, add):
    original = kind.__init__

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        add(self)

    kind.__init__ = init


def _numbers(looking, logs):
    numbers = {}
    for name, value in list(logs.items())[:_MOST]:
        if looking.is_tensor(value):
            numbers[str(name)] = value
            continue
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers
