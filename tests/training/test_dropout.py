"""Dropout: it drops its share, each place has a mask of its own, and the compiled core drops what NumPy drops."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import _core
from pygpt.training import functions
from pygpt.training.dropout import Dropout
from pygpt.training.kernels import Kernels
from pygpt.training.primitives import Drop


def test_dropout_drops_its_share() -> None:
    dropout = Dropout(0.25, np.random.default_rng(6))
    x = functions.dropout(np.ones((100, 1000)), dropout.at(3))
    assert set(np.unique(x)) == {0.0, 1.0 / 0.75}
    deviation = (0.25 / 0.75) ** 0.5
    for axis in (None, 0, 1):
        mean = x.mean(axis=axis)
        assert np.abs(mean - 1.0).max() < 5 * deviation / (x.size // np.size(mean)) ** 0.5  # five standard deviations
    for other in (np.roll(x, 1, axis=0), np.roll(x, 1, axis=1), functions.dropout(np.ones_like(x), dropout.at(4))):
        along = ((x - 1.0) * (other - 1.0)).mean() / deviation**2  # the correlation of two masks
        assert abs(along) < 5 / x.size**0.5
    assert np.array_equal(functions.dropout(x, None), x)


@pytest.mark.parametrize("drop", [None, Drop(0.3, 12345), Drop(0.999, 2**64 - 1)])
@pytest.mark.parametrize("shape", [(1, 1), (70, 16), (130, 33), (3, 1000)])
def test_dropout(shape: tuple[int, int], drop: Drop | None) -> None:
    x, plus = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    expected = functions.dropout(x, drop)  # a product of the same two numbers
    scalar = Kernels(threads=1, isa="scalar").dropout(x, drop, plus)
    for isa in _core.isa_names():
        kernels = Kernels(threads=2, isa=isa)
        assert np.array_equal(kernels.dropout(x, drop), expected)
        assert np.array_equal(kernels.dropout(x, drop, plus), scalar)
    assert np.abs(scalar - functions.dropout(x, drop, plus)).max() <= 2.0**-22 * np.abs(expected).max()  # fused there
