"""An update's loss, from what `backward` was called on."""

from _traintop_inside.values import read

_MOST = 4096
"""Micro-steps of one update whose losses are kept."""


class Losses:
    """Of one update after the other.

    Loops that accumulate gradients divide each loss by the micro-steps of an update, as a rule; that is seen in how the
    tensor was made, and undone: what is told is the mean of the losses as the model has them.
    """

    def __init__(self, torch):
        autograd = getattr(torch._C, "_autograd", None)
        self._hooks = getattr(autograd, "_top_saved_tensors_default_hooks", None)
        self._usual = 1
        self._taken = []

    def add(self, value, divisor):
        """One micro-step's, as `Values.of` and `divisor_of` returned them."""
        if len(self._taken) < _MOST:
            self._taken.append((value, divisor))

    def cut(self):
        """End an update here: what it has, for `loss_of`."""
        taken, self._taken = self._taken, []
        return taken

    def loss_of(self, taken, are_parts):
        """An update's loss, asked for once each and in their order; None where none is there.

        `are_parts`: the losses add up to it, as they are.
        """
        n, divisors = len(taken), {divisor for _, divisor in taken}
        if n > 1 and divisors == {n}:
            self._usual = n
        there = [value for value in (read(each) for each, _ in taken) if value is not None]
        if not there:
            return None
        undone = self._usual if divisors == {self._usual} else 1  # of fewer micro-steps at the end of an epoch, too
        return sum(there) / len(there) * (n if are_parts else undone)

    def divisor_of(self, tensor):
        """The whole number that the tensor is another one divided by; else 1."""
        made = tensor.grad_fn
        if type(made).__name__ != "DivBackward0" or self._hooks is None or self._hooks(False) is not None:
            return 1  # where hooks keep what is saved, to read it is to call them
        other = made._saved_other
        if other is None or other.device.type != "cpu" or other.dim():
            return 1
        number = float(other.item())
        return int(number) if number >= 1 and number.is_integer() else 1
