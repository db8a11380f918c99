"""Messages that wait until the device has computed their numbers."""

from _traintop_inside.values import Coming, read

_SINGLE = ("lr", "grad_norm", "loss_scale", "skipped")


class Row:
    """One update. Its values are as `Values.of` returned them, or numbers."""

    __slots__ = ("_known", "_losses", "_single", "_span", "_times")

    def __init__(self, known, span, losses, times, single):
        self._known, self._span, self._losses, self._times, self._single = known, span, losses, times, single

    @property
    def is_there(self):
        """Whether all can be read without waiting."""
        return self._span.is_passed and _are_there(self._losses) and _are_there(self._single)

    def read(self):
        """As it is told; what is not there by now is None."""
        span, row = self._span, self._known
        row["t"] = span.t
        row["shares"], row["seconds"] = span.read()
        for name, value in zip(_SINGLE, self._single):
            row[name] = read(value)
        row["skipped"] = bool(row["skipped"])
        losses = [loss for loss in map(read, self._losses) if loss is not None]
        row["loss"] = sum(losses) / len(losses) * self._times if losses else None
        return row


class Later:
    """Figures that a trainer logged, as numbers or as `Values.of` returned them."""

    def __init__(self, told, values):
        self._told, self._values = told, values

    @property
    def is_there(self):
        """Whether all can be read without waiting."""
        return _are_there(self._values.values())

    def read(self):
        """As it is told; what is not there by now is left out."""
        figures = {name: read(value) for name, value in self._values.items()}
        return {**self._told, "figures": {name: value for name, value in figures.items() if value is not None}}


def _are_there(values):
    return not any(type(value) is Coming and not value.is_there for value in values)
