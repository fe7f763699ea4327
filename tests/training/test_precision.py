"""bfloat16 factors: a faster product whose loss stays near float32's."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import _core
from pygpt.config import ModelConfig
from pygpt.training.kernels import Kernels
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters


def has_bfloat16() -> bool:
    return "avx512" in _core.isa_names() and _core.cpu_features()["avx512_bf16"]


def test_where_there_is_none_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"precision='bfloat16' needs AVX512_BF16 .* use 'float32'"):
        Kernels(threads=1, isa="scalar", precision="bfloat16")
    with pytest.raises(ValueError, match=r"precision must be 'float32' or 'bfloat16', not 'float16'"):
        Kernels(threads=1, precision="float16")  # type: ignore[arg-type]


@pytest.mark.skipif(not has_bfloat16(), reason="this machine has no AVX512_BF16")
def test_loss_and_gradients_are_near_those_of_float32(config: ModelConfig) -> None:
    """Each factor is off by at most one part in 2^9, and so is each of a model's products by about two of them; a block
    is four products deep, forward and backward. The bounds are ten times what independent errors would add up to."""
    generator = np.random.default_rng(3)
    ids, targets = generator.integers(0, config.n_vocab, (2, 2, 6), np.int32)
    params = Parameters(config)
    params.flat[:] = generator.standard_normal(len(params.flat)) * 0.3
    found = {}
    for precision in ("float32", "bfloat16"):
        grads = Parameters(config)
        network = Network(config, Kernels(threads=2, precision=precision))
        nats, count = network.loss_and_gradients(params, grads, ids, targets)
        found[precision] = nats / count, grads.flat
    n_products = 8 * config.n_layer + 3
    bound = 10 * 2.0**-9 * n_products**0.5
    loss, gradients = found["float32"]
    rounded_loss, rounded_gradients = found["bfloat16"]
    assert 0 < abs(rounded_loss - loss) < bound * loss
    assert np.linalg.norm(rounded_gradients - gradients) < bound * np.linalg.norm(gradients)
