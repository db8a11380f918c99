"""An update's loss, from what `backward` was called on."""

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

    def cut(self, are_parts):
        """End an update here: its values, and what turns them into its loss. `are_parts`: they add up to it."""
        taken, self._taken = self._taken, []
        divisors = {divisor for _, divisor in taken}
        if len(divisors) == 1 and len(taken) > 1 and divisors == {len(taken)}:
            self._usual = len(taken)
        undone = self._usual if divisors == {self._usual} else 1  # of fewer micro-steps at the end of an epoch, too
        return [value for value, _ in taken], len(taken) if are_parts else undone

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
