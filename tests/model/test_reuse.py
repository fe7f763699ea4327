"""A cache that is kept between prompts changes no bit of what is generated, and reads no token twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pygpt.generation import PrefixCache

NAMES = ["gpt2", "llama", "windows", "alibi"]


def read(cores: Any, name: str, cache: PrefixCache, prompt: np.ndarray, n_new: int) -> tuple[int, list[int]]:
    """Continue a prompt greedily: how many of its tokens were read, and the new ones."""
    engine = cores.engine(name)
    session = cache.take(prompt)
    n_read = len(prompt) - session.length
    unread, tokens = prompt[session.length :], []
    for _ in range(n_new):
        logits = engine.forward([(session, unread)])[0]
        whole = engine.forward([(engine.session(), np.array([*prompt, *tokens], np.int32))])[0]
        assert cores.same(logits, whole)
        tokens.append(int(logits.argmax()))
        cache.extend(tokens[-1])
        unread = np.array(tokens[-1:], np.int32)
    return n_read, tokens


@pytest.mark.parametrize("name", NAMES)
def test_what_two_prompts_share_is_read_once(cores: Any, name: str) -> None:
    cache = PrefixCache(cores.engine(name).session)
    first = cores.ids(name, 40)
    n_read, said = read(cores, name, cache, first, 6)
    assert n_read == 40
    second = np.array([*first, *said, *cores.ids(name, 5, seed=2)], np.int32)
    n_read, _ = read(cores, name, cache, second, 3)
    assert n_read == 6  # the last token that was drawn, and the 5 new ones
    assert read(cores, name, cache, second, 3)[0] == 1
    assert read(cores, name, cache, second[:20], 2)[0] == 1
    other = second.copy()
    other[10:] = (other[10:] + 1) % cores.configs[name].n_vocab
    assert read(cores, name, cache, other, 2)[0] == len(other) - 10
    assert read(cores, name, cache, other[::-1].copy(), 2)[0] in (len(other), len(other) - 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_long_answer_may_be_left_out_of_the_next_prompt(cores: Any, name: str) -> None:
    """As reasoning is, from models whose windows have moved on by then."""
    cache = PrefixCache(cores.engine(name).session)
    prompt = cores.ids(name, 30)
    session = cache.take(prompt)
    long = cores.ids(name, 500, seed=3)
    engine = cores.engine(name)
    engine.forward([(session, prompt)])
    cache.extend(int(long[0]))
    for token in long[1:]:
        cache.extend(int(token))
    engine.forward([(session, long[:-1])])
    n_read, _ = read(cores, name, cache, np.array([*prompt, 1, 2, 3], np.int32), 2)
    assert n_read == 3


def test_a_read_that_failed_is_not_taken_for_done(cores: Any) -> None:
    cache = PrefixCache(cores.engine("llama").session)
    prompt = cores.ids("llama", 30)
    cache.take(prompt)  # and nothing reads it
    assert read(cores, "llama", cache, prompt, 2)[0] == 30
