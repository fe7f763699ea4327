"""The tree of prefixes: what it gives is what would be read anew, to the bit; what it keeps is bounded in bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt import _core
from pygpt.generation.prefix import Ids, PrefixTree

MUCH = 2**40
FORMATS = [("float32", "float32"), ("int8", "float16"), ("int8", "int8")]


def read(cores: Any, engine: _core.Engine, tree: PrefixTree, prompt: Ids) -> int:
    """Read a prompt with the tree's help and give it to the tree: how many of its tokens were read."""
    session = tree.take(prompt) or engine.session()
    assert session.length < len(prompt)
    n_read = len(prompt) - session.length
    (logits,) = engine.forward([(session, prompt[session.length :])])
    assert cores.same(logits, engine.forward([(engine.session(), prompt)])[0])
    tree.give(prompt, session)
    return n_read


def held_bytes(tree: PrefixTree) -> int:
    """Of the pages that are really there, each once."""
    pages = [page for _, session in tree.kept() for pages in session.pages() for page in pages if page is not None]
    return sum({page.address: page.nbytes for page in pages}.values())


@pytest.mark.parametrize("name", ["llama", "windows", "alibi"])
@pytest.mark.parametrize("formats", FORMATS, ids="-".join)
def test_prompts_that_begin_alike(cores: Any, name: str, formats: tuple[str, str]) -> None:
    engine, tree = cores.engine(name, *formats), PrefixTree(MUCH)
    system, rng = cores.ids(name, 150), np.random.default_rng(5)
    ends = [cores.ids(name, n, n) for n in (3, 40, 90)]
    prompts = [np.concatenate([system, end]) for end in ends]
    assert [read(cores, engine, tree, prompt) for prompt in prompts] == [153, 40, 90]
    for prompt in prompts:  # again: the last token is read, and what fills no page where others went on
        assert read(cores, engine, tree, prompt) == 1
        session = engine.session()
        engine.forward([(session, prompt)])
        tree.give(prompt, session)  # what was read twice is kept once
    n_bytes, n_nodes = tree.n_bytes, len(tree)
    assert n_bytes == held_bytes(tree)
    for _ in range(10):  # a conversation of many turns
        prompt = np.concatenate([prompt, rng.integers(0, 101, 20, dtype=np.int32)])
        assert read(cores, engine, tree, prompt) <= 20
    assert len(tree) == n_nodes + 10
    assert tree.n_hits == 15
    assert tree.take(prompt[:1]) is None
    assert tree.take((prompt + 1) % 101) is None


def test_windows_go_back_to_where_a_prompt_ended(cores: Any) -> None:
    """A long answer has moved the windows on; the state before it is there still."""
    engine, tree = cores.engine("windows"), PrefixTree(MUCH)
    prompt, answer = cores.ids("windows", 130), cores.ids("windows", 500, 2)
    assert read(cores, engine, tree, prompt) == 130
    assert read(cores, engine, tree, np.concatenate([prompt, answer])) == 500
    assert read(cores, engine, tree, np.concatenate([prompt, answer[::-1]])) == 500
    alone = PrefixTree(MUCH)
    session = engine.session()
    engine.forward([(session, np.concatenate([prompt, answer]))])
    alone.give(np.concatenate([prompt, answer]), session)
    assert alone.take(np.concatenate([prompt, answer[::-1]])) is None  # it cannot go back so far
    assert read(cores, engine, alone, prompt) == 130
    assert read(cores, engine, alone, prompt) == 2


def test_the_longest_unused_goes_first(cores: Any) -> None:
    engine = cores.engine("llama", "int8", "int8")
    session = engine.session()
    engine.forward([(session, cores.ids("llama", 64))])
    page = session.pages()[0][0]
    assert page is not None
    tree = PrefixTree(6 * page.nbytes)
    system = cores.ids("llama", 128)
    a, b, c = (np.concatenate([system, cores.ids("llama", 64, seed)]) for seed in (2, 3, 4))
    for prompt, n_read, n_pages in ((a, 192, 3), (b, 64, 4), (c, 64, 5), (a, 1, 5)):
        assert read(cores, engine, tree, prompt) == n_read
        assert tree.n_bytes == n_pages * page.nbytes == held_bytes(tree)
    d = cores.ids("llama", 128, 9)
    assert read(cores, engine, tree, d) == 128  # in the place of b
    assert tree.n_bytes == 6 * page.nbytes == held_bytes(tree)
    assert [tree.n_kept(prompt) for prompt in (a, b, c, d)] == [191, 128, 191, 127]
    assert read(cores, engine, tree, cores.ids("llama", 384, 10)) == 384  # all of it
    assert tree.n_bytes == 6 * page.nbytes
    assert [tree.n_kept(prompt) for prompt in (a, b, c, d)] == [0] * 4
    assert read(cores, engine, tree, cores.ids("llama", 385, 11)) == 385  # more than is ever kept, which stays
    assert read(cores, engine, tree, cores.ids("llama", 384, 10)) == 1
    nothing = PrefixTree(0)
    assert read(cores, engine, nothing, a) == 192
    assert (len(nothing), nothing.n_bytes) == (0, 0)


WORDS = st.lists(st.sampled_from([(0,) * 30, (1,) * 64, (2, 3), tuple(range(100))]), min_size=1, max_size=6)


@pytest.mark.parametrize("name", ["llama", "windows"])
@settings(max_examples=60, deadline=None)
@given(prompts=st.lists(WORDS, max_size=12), n_pages=st.integers(0, 60))
def test_it_is_a_dictionary(name: str, cores: Any, prompts: list[list[tuple[int, ...]]], n_pages: int) -> None:
    """Beside one that finds the longest common beginning with all that was given: never more, and where there is room
    and no window, never less. What a session has read is checked by its length and tokens, not by its logits."""
    engine = cores.engine(name, "int8", "int8")
    given_tokens: list[list[int]] = []
    page_bytes = engine.kv_bytes_per_token * 64
    tree = PrefixTree(n_pages * page_bytes)
    for words in prompts:
        tokens = [token for word in words for token in word]
        prompt = np.array(tokens, np.int32)
        session = tree.take(prompt)
        n_found = 0 if session is None else session.length
        n_best = max((_n_common(tokens[:-1], known) for known in given_tokens), default=0)
        assert n_found <= n_best
        if name == "llama" and n_pages == 60:
            assert n_found == n_best
        session = session or engine.session()
        engine.forward([(session, prompt[n_found:])], output="none")
        tree.give(prompt, session)
        given_tokens.append(tokens)
        assert tree.n_bytes == held_bytes(tree) <= n_pages * page_bytes
        for known, kept in tree.kept():
            assert kept.length == len(known)
            assert any(_n_common(known.tolist(), tokens) == len(known) for tokens in given_tokens)


def _n_common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
