"""What one thread does in an update."""

import weakref

from _traintop_inside.clock import Clock
from _traintop_inside.losses import Losses
from _traintop_inside.rows import Row


class Update:
    """The one under way; after `cut` the next."""

    __slots__ = (
        "_is_fetched",
        "_losses",
        "_scaled",
        "called",
        "clock",
        "has_trained",
        "micro_steps",
        "norm",
        "samples",
        "scale",
        "skipped",
        "stepped",
        "tokens",
    )

    def __init__(self, torch):
        self.clock, self._losses = Clock(torch), Losses(torch)
        self.has_trained = False
        """Whether this thread has called `backward`."""
        self._anew()

    def _anew(self):
        self.micro_steps = 0
        self.samples = self.tokens = self.norm = self.scale = self.called = self._scaled = None
        self.skipped, self.stepped, self._is_fetched = False, True, False

    def note_scaled(self, scaled, value, loss):
        """A loss was scaled: what it was before, as `Values.of` returned it."""
        self._scaled = (weakref.ref(scaled), value, self._losses.divisor_of(loss))

    def add_loss(self, values, tensor):
        """That of a micro-step: of what `backward` is called on."""
        scaled = self._scaled
        if scaled is not None:
            self._scaled = None
            if scaled[0]() is tensor:
                self._losses.add(scaled[1], scaled[2])
                return
        if tensor.numel() == 1:
            self._losses.add(values.of(tensor), self._losses.divisor_of(tensor))

    def add_batch(self, samples, tokens):
        """The one that it was of: as a loader handed it out, or else as the model was called with it.

        What a loader handed out is counted once, into however many calls it is cut.
        """
        if samples is not None:
            self._is_fetched = True
        elif self.called is not None and not self._is_fetched:
            samples, tokens = self.called
        self.called = None
        if samples is not None:
            self.samples = (self.samples or 0) + samples
        if tokens is not None:
            self.tokens = (self.tokens or 0) + tokens

    def cut(self, number, lr, *, adds_up, phase):
        """End it here, and go on in a phase."""
        counts = (number, self.micro_steps, self.samples, self.tokens)
        single = (lr, self.norm, self.scale, self.skipped)
        row = Row(counts, self.clock.cut(phase), self._losses, self._losses.cut(), adds_up, single)
        self._anew()
        return row
