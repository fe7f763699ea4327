"""bfloat16's bits: how numbers are rounded to them, and what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt.training.bfloat16 import rounded, widened


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F800000, 0x3F80),
        (0x3F807FFF, 0x3F80),
        (0x3F808000, 0x3F80),  # half way: to the even one below ...
        (0x3F818000, 0x3F82),  # ... or above
        (0xBF808001, 0xBF81),
        (0x7F7FFFFF, 0x7F80),  # beyond the largest: infinity
        (0xFF800000, 0xFF80),
        (0x00000001, 0x0000),
        (0x80008001, 0x8001),  # subnormal
        (0x7F800001, 0x7FC0),  # a NaN, whose upper half alone would be infinity
        (0xFFFFFFFF, 0xFFFF),
    ],
)
def test_to_nearest_ties_to_even(bits: int, expected: int) -> None:
    assert rounded(np.array([bits], np.uint32).view(np.float32)).tolist() == [expected]


def test_what_is_widened_comes_back() -> None:
    everything = np.arange(1 << 16, dtype=np.uint16)
    quiet = np.where(np.isnan(widened(everything)), everything | 0x40, everything)  # as a processor makes a NaN
    np.testing.assert_array_equal(rounded(widened(everything)), quiet)
    assert widened(rounded(np.array([1.0, -2.5, 2.0**100]))).tolist() == [1.0, -2.5, 2.0**100]
