"""Polynomials in two lengths: through points that tell one, and through points that do not."""

from __future__ import annotations

import numpy as np
import pytest

from engine.forecast.polynomial import Polynomial


def _value(width: float, target: float) -> float:
    return 3 + 2 * width + 5 * target + width * target


@pytest.mark.parametrize(
    "points",
    [
        [(16, 4), (16, 8), (16, 12), (32, 4), (32, 8), (32, 12)],  # rows of two lengths: no square of them is told
        [(n, n) for n in range(2, 9)],
        [(10, 3), (12, 5), (14, 7), (16, 9), (18, 11), (20, 13), (11, 9)],  # but for one on a line
    ],
)
def test_points_on_a_curve_tell_what_is_at_them(points: list[tuple[float, float]]) -> None:
    """Six of them say no polynomial of the second degree, and a data set's lengths may well lie so."""
    values = np.array([[_value(*point)] for point in points])
    polynomial = Polynomial(points, values)
    for point in points:
        np.testing.assert_allclose(polynomial.at(point), [_value(*point)], rtol=1e-9)
    inside = polynomial.at((points[0][0] + 0.5, points[0][1] + 0.5))
    assert values.min() * 0.5 < inside < values.max()


def test_six_points_tell_the_polynomial_itself() -> None:
    points = [(8, 4), (8, 2), (8, 3), (6, 4), (6, 2), (5, 4)]
    polynomial = Polynomial(points, np.array([[_value(*point)] for point in points]))
    np.testing.assert_allclose(polynomial.at((30, 20)), [_value(30, 20)], rtol=1e-9)
