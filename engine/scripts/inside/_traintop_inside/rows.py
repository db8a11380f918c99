"""Messages that wait until the device has computed their numbers."""

from _traintop_inside.values import Coming, read

_ROW = (
    '{"update": %s, "micro_steps": %s, "samples": %s, "tokens": %s, "t": %s, "seconds": %s, "shares": {%s}, '
    '"loss": %s, "lr": %s, "grad_norm": %s, "loss_scale": %s, "skipped": %s}'
)


class Row:
    """One update. `taken`: what `losses` has of it; the single values are as `Values.of` returned them, or numbers."""

    __slots__ = ("_are_parts", "_counts", "_losses", "_single", "_span", "_taken")

    def __init__(self, counts, span, losses, taken, are_parts, single):
        self._counts, self._span, self._single = counts, span, single
        self._losses, self._taken, self._are_parts = losses, taken, are_parts

    @property
    def is_there(self):
        """Whether all can be read without waiting."""
        return self._span.is_passed and _are_there(each for each, _ in self._taken) and _are_there(self._single)

    def as_json(self):
        """As it is told; what is not there by now is null. Written by hand, as that takes half the time."""
        span, (shares, seconds) = self._span, self._span.read()
        loss = self._losses.loss_of(self._taken, self._are_parts)
        lr, norm, scale, skipped = map(read, self._single)
        words = (
            *map(_number, self._counts),
            f"{span.t:.9g}",
            f"{seconds:.9g}",
            ", ".join(['"%s": %.9g' % each for each in shares.items()]),  # noqa: UP031 (it is the fastest)
            *map(_number, (loss, lr, norm, scale)),
            "true" if skipped else "false",
        )
        return _ROW % words


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


def _number(value):
    if value is None:
        return "null"
    if value - value == 0:
        return repr(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
