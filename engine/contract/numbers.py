"""Numbers as text, on the screen and in what is exported. Standard library only.

Unknown (None) is "–", never 0; not a number is "nan", infinite is "inf"; negative numbers carry a true minus sign, as
in print, and what rounds to zero has no sign. A number keeps its digits while it moves within a power of ten, so that
a column of them does not jump.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.gpus.units import to_mib

UNKNOWN = "–"
MINUS = "−"


def _written(value: float | None, digits: Callable[[float], str]) -> str:
    """`digits` of the magnitude with a sign in front; the values that have no digits are said in words."""
    if value is None:
        return UNKNOWN
    if math.isnan(value):
        return "nan"
    text = "inf" if math.isinf(value) else digits(abs(value))
    return MINUS + text if value < 0 and text.strip("0.:,") else text


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit and text != UNKNOWN else text


def fixed(value: float | None, digits: int = 0) -> str:
    """Fixed decimals, no separators: 66.7 -> "66.70" with two."""
    return _written(value, lambda v: f"{v:.{digits}f}")


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Fixed decimals and thousands separators: 1234.4 W -> "1,234 W"; no unit where the value is unknown."""
    return _with_unit(_written(value, lambda v: f"{v:,.{digits}f}"), unit)


def n_of(n: int, one: str, several: str = "") -> str:
    """So many of them: "1 row", "1,200 rows", "0 rows"; `several` where that is not `one` with an s."""
    return f"{n:,} {one if n == 1 else several or f'{one}s'}"


def signed(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A difference: "−3,450 MiB", "+40 %", "±0 %"."""
    text = number(value, digits)
    if value is not None and not math.isnan(value) and not text.startswith(MINUS):
        text = ("+" if text.strip("0.,") else "±") + text
    return _with_unit(text, unit)


def short_count(value: float | None) -> str:
    """Three significant digits with k, M, B, T: 109_482_240 -> "109M"."""
    return _written(value, _short)


def mib(n_bytes: float | None) -> str:
    """Bytes as whole MiB, no separators: 7_412_383_744 -> "7069"."""
    return fixed(to_mib(n_bytes))


def signed_mib(n_bytes: float | None) -> str:
    """A difference of bytes in whole MiB: "−3,450 MiB"."""
    return signed(to_mib(n_bytes), unit="MiB")


def clock(seconds: float | None) -> str:
    """41.9 -> "00:41", 3723 -> "1:02:03". Whole seconds that have passed, not rounded up."""
    return _written(seconds, _clock)


def duration(seconds: float | None) -> str:
    """Seconds for a table: 66.7 -> "66.70"."""
    return fixed(seconds, 2)


def rate(value: float | None) -> str:
    """Three significant digits: "7.68", "12.3", "123", "1,234"; "0.768" below 1, scientific below 0.001."""
    return _written(value, lambda v: f"{v:,.{digits_of(v)}f}" if v == 0 or v >= 0.0009995 else _scientific(v, 2))


def forecast_rate(value: float | None) -> str:
    """A forecast as it is written wherever it is: "~745"."""
    return UNKNOWN if value is None else f"~{rate(value)}"


def digits_of(value: float) -> int:
    """The decimals that give `value` three significant digits, 8 at most; 2 for zero."""
    value = abs(value)
    if value == 0 or not math.isfinite(value):
        return 2
    # 9.996 reads 10.0: the power of ten is that of the rounded number
    return min(max(0, 2 - int(f"{value:.2e}".partition("e")[2])), 8)


def plus_minus(value: float | None, spread: float | None, digits: int | None = None) -> str:
    """A value and its spread with the same decimals, "7.68 ±0.03": as `rate` has it, or `fixed` with `digits`.

    The spread alone is left off where it is unknown.
    """
    text = rate(value) if digits is None else fixed(value, digits)
    if value is None or not math.isfinite(value) or spread is None:
        return text
    spread = abs(spread)
    return f"{text} ±{number(spread, digits_of(value)) if digits is None else fixed(spread, digits)}"


def of_hundred(share: float | None) -> float | None:
    """A share of 0 to 1 in percent."""
    return None if share is None else 100 * share


def percent(value: float | None, digits: int = 0) -> str:
    """A share already in percent: 92.9 -> "93 %"."""
    return number(value, digits, "%")


def signed_percent(value: float | None, baseline: float | None) -> str:
    """How much `value` is above `baseline`: 7 against 5 -> "+40 %"; "–" where one is unknown or the baseline is 0."""
    if value is None or baseline is None or baseline == 0:
        return UNKNOWN
    return signed((value / baseline - 1) * 100, unit="%")


def loss(value: float | None, digits: int = 3) -> str:
    """Fixed decimals, scientific when that would show no digit or nine: "0.029", "2.9e−04", "1.2e+06"."""
    return _written(value, lambda v: f"{v:.{digits}f}" if v == 0 or 10**-digits <= v < 1e4 else _scientific(v, 1))


def _scientific(value: float, digits: int) -> str:
    return f"{value:.{digits}e}".replace("-", MINUS)


def _clock(value: float) -> str:
    minutes, whole = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes:02}:{whole:02}"


def _short(value: float) -> str:
    for power, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= power * 0.9995:
            return f"{value / power:.{digits_of(value / power)}f}{letter}"
    return f"{value:.0f}"
