"""bfloat16's bits: how numbers are rounded to them, what they stand for, and AdamW with a mean of them."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import _core
from pygpt.training import functions
from pygpt.training.bfloat16 import rounded, widened
from pygpt.training.kernels import Kernels
from pygpt.training.primitives import Primitives, Update


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


MACHINES = [(isa, threads) for isa in _core.isa_names() for threads in (1, 2, 3)]


@pytest.mark.parametrize("n", [1, 33, 50_000])
@pytest.mark.parametrize("machine", [None, *MACHINES])
def test_adamw_with_a_mean_in_bfloat16(machine: tuple[str, int] | None, n: int) -> None:
    """All is that of float32, from a mean that bfloat16 holds, and the mean is then rounded."""
    primitives: Primitives = functions if machine is None else Kernels(threads=machine[1], isa=machine[0])
    generator = np.random.default_rng(n)
    params, grads, mean = generator.standard_normal((3, n), np.float32)
    square = np.square(generator.standard_normal(n, np.float32))
    found, expected = [(params.copy(), m, square.copy()) for m in (rounded(mean), widened(rounded(mean)))]
    for p, m, v in (found, expected):
        primitives.adamw(p, grads, m, v, Update(1e-2, 0.9, 0.95, 1e-8, 0.1, 7, 0.3))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], rounded(expected[1]))
    np.testing.assert_array_equal(found[2], expected[2])
