"""Numbers on a device, read when it has computed them."""

_MOST_FREE = 256


class Values:
    """Takes numbers as they are now. Copies of those on a CUDA device come to the host without being waited for."""

    def __init__(self, torch):
        self._torch, self._plain = torch, torch.Tensor
        self._free = {}  # by device and type, copies to be used again

    def of(self, tensor):
        """A number, or one to come, of a tensor that has one; None where it cannot be read without waiting."""
        if type(tensor) is not self._plain and not self._is_plain(tensor):
            return None
        if tensor.is_cpu:
            try:
                return tensor.item()
            except Exception:  # none that is computed, as of a fake one
                return None
        if not tensor.is_cuda or self._torch.cuda.is_current_stream_capturing():
            return None
        return self._copied(tensor.detach())

    def _is_plain(self, tensor):
        """Whether it is here as a whole: the processes would have to meet to read one that is spread over them."""
        return isinstance(tensor, self._plain) and not hasattr(tensor, "placements")

    def _copied(self, tensor):
        torch = self._torch
        free = self._free.setdefault((tensor.device, tensor.dtype), [])
        if free:
            copy, event = free.pop()
        else:
            copy = torch.empty((), dtype=tensor.dtype, device="cpu", pin_memory=True)
            event = torch.cuda.Event()
        copy.copy_(tensor.reshape(()), non_blocking=True)
        event.record(torch.cuda.current_stream(tensor.device))
        return Coming(copy, event, free)


class Coming:
    """A number that a device computes."""

    def __init__(self, copy, event, free):
        self._copy, self._event, self._free = copy, event, free

    @property
    def is_there(self):
        """Whether it can be read without waiting."""
        return self._event.query()

    def read(self):
        """The number; call it once."""
        number = float(self._copy)
        if len(self._free) < _MOST_FREE:
            self._free.append((self._copy, self._event))
        return number


def read(value):
    """What `Values.of` returned as a number, if it is there; else None."""
    if type(value) is Coming:
        return value.read() if value.is_there else None
    return value
