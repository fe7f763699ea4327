"""kv="int8" where a first layer's keys have a bias that turns: that layer stays in float16."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pygpt import _core


@pytest.mark.parametrize(
    ("name", "bytes_a_token"),  # heads, keys and values, and their 16 numbers with a scale
    [
        ("interleaved", 3 * 2 * (16 * 2) + 3 * 2 * (16 + 4)),
        ("gpt2", 2 * 6 * 2 * (16 + 4)),
        ("llama", 2 * 2 * 2 * (16 + 4)),
    ],
)
@pytest.mark.parametrize("n", [1, 64, 65, 300])
def test_what_a_model_says_it_takes_is_what_it_takes(cores: Any, name: str, bytes_a_token: int, n: int) -> None:
    engine = cores.engine(name, "int8", "int8")
    assert engine.kv_bytes_per_token == bytes_a_token
    session = engine.session()
    engine.forward([(session, cores.ids(name, n))], output="none")
    n_pages = -(-n // 64)
    assert sum(session.page_bytes().values()) == engine.cache_bytes(n) == n_pages * 64 * bytes_a_token
    builder = _core.EngineBuilder(cores.configs[name], weights="int8", kv="int8", threads=1, isa=None)
    assert builder.cache_bytes(n) == engine.cache_bytes(n)


def test_a_model_of_that_layer_alone_is_one_with_a_float16_cache(cores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not so where nothing turns, or another layer follows."""
    for name in ("interleaved", "gpt2"):
        config = cores.configs[name]
        monkeypatch.setitem(cores.configs, f"first of {name}", replace(config, layers=config.layers[:1]))
    for name, equal in (("first of interleaved", True), ("first of gpt2", False), ("interleaved", False)):
        ids = cores.ids(name, 200)
        found, expected = (cores.logits(cores.engine(name, "float32", kv), ids) for kv in ("int8", "float16"))
        assert cores.same(found, expected) == equal
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
