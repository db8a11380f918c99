"""Whole polynomials of the second degree in a batch's two lengths, that of its rows and that of their targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Lengths = tuple[float, float]
"""Of a row, and of its target; 0 where there is none."""
Vector = npt.NDArray[np.float64]
_ONE = ((0, 0), (1, 0), (2, 0))
_BOTH = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))


class Polynomial:
    """That through known values, shape (points, numbers): in both lengths where both vary, else in one of them."""

    def __init__(self, points: Sequence[Lengths], values: Vector) -> None:
        widths, targets = {width for width, _ in points}, {target for _, target in points}
        if len(widths) > 1 and len(targets) > 1:
            powers: tuple[tuple[int, int], ...] = _BOTH if len(points) >= len(_BOTH) else _BOTH[:1]
        else:
            swapped = len(targets) > 1
            powers = tuple((j, i) if swapped else (i, j) for i, j in _ONE[: len(points)])
        self._powers = powers
        # as shares of the longest, so that squares of long ones cost no digits
        self._scale = max(widths), max(targets) or 1
        n = len(self._powers)
        basis = np.stack([self._terms(point) for point in points])
        if np.linalg.matrix_rank(basis[:n]) == n:
            found = np.linalg.solve(basis[:n], values[:n])
        else:  # points on a curve, such as rows of two lengths, tell no polynomial from its like: the flattest of them
            found = np.linalg.lstsq(basis, values, rcond=None)[0]
        self.coefficients: Vector = found.astype(np.float64)
        """By term, the constant first; those of what does not vary are exact."""
        alike = (values == values[0]).all(axis=0)
        self.coefficients[0, alike], self.coefficients[1:, alike] = values[0, alike], 0.0

    def _terms(self, lengths: Lengths) -> Vector:
        shares = [length / most for length, most in zip(lengths, self._scale, strict=True)]
        return np.array([shares[0] ** i * shares[1] ** j for i, j in self._powers])

    def at(self, lengths: Lengths, coefficients: Vector | None = None) -> Vector:
        """The values at other lengths, shape (numbers,); of other coefficients where they are given."""
        told: Vector = self._terms(lengths) @ (self.coefficients if coefficients is None else coefficients)
        return told
