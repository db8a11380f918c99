"""Numbers on a device, read when it has computed them; and what a batch has in it."""


class Value:
    """A tensor with one number in it, as it is now. Holds a copy on the host alone."""

    def __init__(self, torch, tensor):
        self._event = self._copy = None
        tensor = tensor.detach()
        if tensor.device.type == "cpu":
            self._copy = float(tensor)
        elif tensor.device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            self._copy = torch.empty((), dtype=tensor.dtype, pin_memory=True)
            self._copy.copy_(tensor.reshape(()), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    @property
    def is_there(self):
        """Whether it can be read without waiting."""
        return self._event is None or self._event.query()

    def read(self):
        """As a float; None where the device's numbers cannot be read without waiting."""
        return None if self._copy is None else float(self._copy)


def size_of(torch, batch):
    """Samples and tokens of a batch; None each where its first tensor does not tell.

    Samples are the first dimension of the first tensor; tokens all whole numbers of one with two dimensions, as
    `input_ids` are.
    """
    tensors = list(_tensors(torch, batch, 0))
    if not tensors:
        return None, None
    named = batch.get("input_ids") if isinstance(batch, dict) or hasattr(batch, "keys") else None
    first = named if isinstance(named, torch.Tensor) else tensors[0]
    if first.dim() == 0:
        return None, None
    is_tokens = first.dim() == 2 and not first.is_floating_point() and not first.is_complex()
    return first.shape[0], first.numel() if is_tokens else None


def _tensors(torch, value, depth):
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < 3:
        inner = value.values() if hasattr(value, "values") and hasattr(value, "keys") else value
        if isinstance(inner, (list, tuple)) or inner is not value:
            for each in inner:
                yield from _tensors(torch, each, depth + 1)
