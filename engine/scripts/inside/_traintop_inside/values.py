"""Numbers on a device, read when it has computed them."""

_MOST_FREE = 256


class Values:
    """Takes numbers as they are now. Copies of those on a CUDA device come to the host without being waited for."""

    def __init__(self, torch):
        self._torch = torch
        self._free = {}  # by device and type, copies to be used again

    def of(self, tensor):
        """A number, or one to come, of a tensor that has one; None where it cannot be read without waiting."""
        if not isinstance(tensor, self._torch.Tensor):
            return None
        if hasattr(tensor, "placements"):  # spread over processes: to read it they would have to meet
            return None
        kind = tensor.device.type
        if kind == "cpu":
            try:
                return float(tensor.item())
            except Exception:  # none that is computed, as on a meta device
                return None
        if kind != "cuda" or self._torch.cuda.is_current_stream_capturing():
            return None
        return self._copied(tensor.detach())

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
        return _Copied(copy, event, free)


class _Copied:
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


def is_there(value):
    """Whether what `Values.of` returned need not be waited for."""
    return not isinstance(value, _Copied) or value.is_there


def read(value):
    """What `Values.of` returned as a number, if it is there; else None."""
    if isinstance(value, _Copied):
        return value.read() if value.is_there else None
    return value
