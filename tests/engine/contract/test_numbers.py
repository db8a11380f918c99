"""Numbers as text, character by character."""

from __future__ import annotations

import math

import pytest

from engine.contract import numbers as f

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f.mib(7069 * MIB), "7069"),
        (f.mib(7069 * MIB + MIB // 2 + 1), "7070"),
        (f.mib(0), "0"),
        (f.mib(None), "–"),
        (f.clock(0), "00:00"),
        (f.clock(41.9), "00:41"),
        (f.clock(66), "01:06"),
        (f.clock(3599.999), "59:59"),
        (f.clock(3723), "1:02:03"),
        (f.clock(360_000), "100:00:00"),
        (f.clock(-5), "−00:05"),
        (f.clock(-0.4), "00:00"),
        (f.clock(None), "–"),
        (f.clock(math.nan), "nan"),
        (f.clock(math.inf), "inf"),
        (f.duration(66.7), "66.70"),
        (f.duration(None), "–"),
        (f.rate(7.684), "7.68"),
        (f.rate(12.34), "12.3"),
        (f.rate(123.4), "123"),
        (f.rate(1234.4), "1,234"),
        (f.rate(7.6), "7.60"),
        (f.rate(9.994), "9.99"),
        (f.rate(9.996), "10.0"),
        (f.rate(99.96), "100"),
        (f.rate(999.6), "1,000"),
        (f.rate(0.7684), "0.768"),
        (f.rate(0.01234), "0.0123"),
        (f.rate(0.00123), "0.00123"),
        (f.rate(0.00099951), "0.00100"),
        (f.rate(0.000123), "1.23e−04"),
        (f.rate(0), "0.00"),
        (f.rate(-7.684), "−7.68"),
        (f.rate(None), "–"),
        (f.rate(math.nan), "nan"),
        (f.rate(-math.inf), "−inf"),
        (f.percent(92.9), "93 %"),
        (f.percent(92.94, 1), "92.9 %"),
        (f.percent(0), "0 %"),
        (f.percent(None), "–"),
        (f.loss(0.0291), "0.029"),
        (f.loss(0.6931, 4), "0.6931"),
        (f.loss(10.5), "10.500"),
        (f.loss(0.00029), "2.9e−04"),
        (f.loss(0), "0.000"),
        (f.loss(-0.2), "−0.200"),
        (f.loss(1_234_567), "1.2e+06"),
        (f.loss(math.nan), "nan"),
        (f.loss(math.inf), "inf"),
        (f.loss(None), "–"),
        (f.plus_minus(7.684, 0.03), "7.68 ±0.03"),
        (f.plus_minus(123.4, 2.6), "123 ±3"),
        (f.plus_minus(7.684, None), "7.68"),
        (f.plus_minus(None, 0.1), "–"),
        (f.plus_minus(math.nan, 0.1), "nan"),
        (f.number(1234), "1,234"),
        (f.number(0), "0"),
        (f.number(None), "–"),
        (f.short_count(109_482_240), "109M"),
        (f.short_count(6_900_000_000), "6.90B"),
        (f.short_count(999_999), "1.00M"),
        (f.short_count(1234), "1.23k"),
        (f.short_count(999), "999"),
        (f.short_count(None), "–"),
        (f.fixed(None), "–"),
        (f.fixed(-0.001, 2), "0.00"),
        (f.fixed(-1234.5, 1), "−1234.5"),
        (f.fixed(-math.inf), "−inf"),
        (f.plus_minus(1234.5, 12.6), "1,234 ±13"),
        (f.plus_minus(1234.5, 12.6, 2), "1234.50 ±12.60"),
        (f.plus_minus(0.00029, None), "2.90e−04"),
        (f.plus_minus(0.00029, 0.00001, 6), "0.000290 ±0.000010"),
        (f.signed(3450), "+3,450"),
        (f.signed(-0.0), "±0"),
        (f.signed(None), "–"),
        (f.signed(math.nan), "nan"),
        (f.signed_mib(-3450 * MIB), "−3,450 MiB"),
        (f.signed_mib(12 * MIB), "+12 MiB"),
        (f.signed_mib(-10), "±0 MiB"),
        (f.signed_mib(None), "–"),
        (f.signed(0.03, digits=2), "+0.03"),
        (f.signed(math.nan, unit="%"), "nan %"),
        (f.signed_percent(7, 5), "+40 %"),
        (f.signed_percent(3, 4), "−25 %"),
        (f.signed_percent(5, 5), "±0 %"),
        (f.signed_percent(None, 5), "–"),
        (f.signed_percent(5, None), "–"),
        (f.signed_percent(5, 0), "–"),
        (f.number(1234.4, 0, "W"), "1,234 W"),
        (f.number(-0.001, 1), "0.0"),
        (f.number(None, 1, "W"), "–"),
    ],
)
def test_text(text: str, wanted: str) -> None:
    assert text == wanted


def test_rates_of_one_power_of_ten_are_equally_wide() -> None:
    for power in (0.01, 0.1, 1, 10, 100, 1000):
        assert len({len(f.rate(power * k)) for k in (1, 1.5, 2.25, 7.777, 9.99)}) == 1


def test_one_thing_is_said_of_one() -> None:
    assert [f.n_of(n, "row") for n in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert [f.n_of(n, "guess", "guesses") for n in (1, 2)] == ["1 guess", "2 guesses"]
