"""`PrefixTree`: what was read of prompts, kept for those that begin alike."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pygpt import _core

_PAGE = 64  # positions of a page of a cache, which forks share when it is full

Ids = NDArray[np.int32]


class PrefixTree:
    """A radix tree over tokens whose nodes own sessions, forks that share their memory. What is taken from it is the
    same, to the bit, as what would be read anew. Usable from several threads.

    All that was used last is kept, as long as it is `limit` bytes at most. A page counts once, however many share it;
    so what is kept never takes more memory than it counts, as long as the pages that others write are counted there.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._root = _Node(None, np.empty(0, np.int32))
        self._by_use: OrderedDict[_Node, None] = OrderedDict()  # the longest unused first; a node before its parent
        self._n_users: Counter[int] = Counter()  # nodes that hold a page, by its address
        self._lock = threading.Lock()
        self.n_bytes = 0
        self.n_hits = 0  # how often something was taken ...
        self.n_hit_tokens = 0  # ... and how many tokens in all

    def __len__(self) -> int:
        return len(self._by_use)

    def take(self, tokens: Ids) -> _core.Session | None:
        """A session of one's own that holds a beginning of these (T,) tokens, as much as can be had of what is kept,
        and less than all: of the last one logits are wanted. None: nothing is kept."""
        with self._lock:
            path, n_common = self._walk(tokens[:-1])
            node, session = self._find(path, n_common)
            if node is None or session is None:
                return None
            self._touch(path[-1])
            self._touch(node)
            self.n_hits += 1
            self.n_hit_tokens += session.length
            return session

    def n_kept(self, tokens: Ids) -> int:
        """How many of these tokens `take` would give."""
        with self._lock:
            session = self._find(*self._walk(tokens[:-1]))[1]
            return 0 if session is None else session.length

    def give(self, tokens: Ids, session: _core.Session) -> None:
        """Keep what a session has read, just these (T,) tokens. Whoever gives it may go on with it."""
        with self._lock:
            if len(tokens) == 0 or sum(session.page_bytes().values()) > self._limit:
                return
            path, n_common = self._walk(tokens)
            node = path[-1] if path else self._root
            if n_common == len(tokens):
                found = self._find(path, n_common)[1]
                if found is not None and found.length == n_common:
                    self._touch(node)
                    return
            if n_common < node.depth:
                node = self._split(node, n_common, session)
            if n_common < len(tokens):
                if node is not self._root and truncated(session, node.depth) is not None:
                    self._hold(node, _whole_pages(node.depth, node.session, session))
                child = _Node(node, tokens[n_common:].copy())
                node.children[int(tokens[n_common])] = node = child
            self._hold(node, _whole_pages(node.depth, session) if node.children else session.fork())
            self._touch(node)
            while self.n_bytes > self._limit:
                self._drop(next(iter(self._by_use)))

    def halve(self) -> bool:
        """Give half of the memory back, or all of it where little is kept. False: there was none."""
        with self._lock:
            was = self.n_bytes
            while self._by_use and (self.n_bytes > was // 2 or not self.n_bytes):
                self._drop(next(iter(self._by_use)))
            return was > 0

    def kept(self) -> list[tuple[Ids, _core.Session]]:
        """All that is kept, tokens and a session of one's own, the longest unused first."""
        with self._lock:
            held = [(node, node.session) for node in self._by_use if node.session is not None]
            return [(node.all_tokens()[: session.length], session.fork()) for node, session in held]

    def _walk(self, tokens: Ids) -> tuple[list[_Node], int]:
        """The nodes along the tokens, of which the last may go on otherwise, and how many tokens they share."""
        path: list[_Node] = []
        node, at = self._root, 0
        while at < len(tokens) and at == node.depth:
            child = node.children.get(int(tokens[at]))
            if child is None:
                break
            at += n_common(child.tokens, tokens[at:])
            path.append(child)
            node = child
        return path, at

    def _find(self, path: list[_Node], n_wanted: int) -> tuple[_Node | None, _core.Session | None]:
        """Who has most of the first `n_wanted` tokens of a path, and a session of no more than these. Nodes behind the
        path have them as well; those before it less, but layers with a window cannot go back far."""
        best: tuple[_Node | None, _core.Session | None] = (None, None)
        n_best = 0
        for node in [*(path[-1].line() if path else ()), *reversed(path[:-1])]:
            if node.session is None or min(node.session.length, n_wanted) <= n_best:
                continue
            session = truncated(node.session, n_wanted)
            if session is not None:
                best, n_best = (node, session), session.length
                if n_best == n_wanted:
                    break
        return best

    def _split(self, node: _Node, depth: int, session: _core.Session) -> _Node:
        """A new node between another and its parent, of whose tokens the session has the first `depth`, too."""
        parent = node.parent
        assert parent is not None
        n = depth - parent.depth
        upper = _Node(parent, node.tokens[:n])
        parent.children[int(upper.tokens[0])] = upper
        node.parent, node.tokens = upper, node.tokens[n:]
        upper.children[int(node.tokens[0])] = node
        self._hold(upper, _whole_pages(depth, node.session, session))
        return upper

    def _hold(self, node: _Node, session: _core.Session | None) -> None:
        """Give a node this session in the place of its own."""
        pages = {} if session is None else session.page_bytes()
        for address, n_bytes in pages.items():
            self.n_bytes += 0 if self._n_users[address] else n_bytes
            self._n_users[address] += 1
        for address, n_bytes in node.pages.items():
            self._n_users[address] -= 1
            if not self._n_users[address]:
                del self._n_users[address]
                self.n_bytes -= n_bytes
        node.session, node.pages = session, pages

    def _touch(self, node: _Node | None) -> None:
        """A node is used, and those before it: later than itself, so that none is ever dropped before what is behind
        it."""
        while node is not None and node is not self._root:
            self._by_use[node] = None
            self._by_use.move_to_end(node)
            node = node.parent

    def _drop(self, leaf: _Node) -> None:
        assert leaf.parent is not None
        assert not leaf.children
        self._hold(leaf, None)
        del self._by_use[leaf]
        del leaf.parent.children[int(leaf.tokens[0])]


class _Node:
    """The tokens between two places where what was read parts, or ends."""

    __slots__ = ("__weakref__", "children", "depth", "pages", "parent", "session", "tokens")

    def __init__(self, parent: _Node | None, tokens: Ids) -> None:
        self.parent = parent
        self.tokens = tokens  # those behind the parent's
        self.depth: int = (0 if parent is None else parent.depth) + len(tokens)
        self.children: dict[int, _Node] = {}  # by their first token
        # Of all tokens up to here; or, where more comes behind that can go back to here, of whole pages of them, which
        # cost nothing.
        self.session: _core.Session | None = None
        self.pages: dict[int, int] = {}  # bytes by address

    def line(self) -> Iterator[_Node]:
        """This node, a child, a child of that, and so on."""
        node: _Node | None = self
        while node is not None:
            yield node
            node = next(iter(node.children.values()), None)

    def all_tokens(self) -> Ids:
        """From the first on."""
        parts: list[Ids] = []
        node: _Node | None = self
        while node is not None:
            parts.append(node.tokens)
            node = node.parent
        return np.concatenate(parts[::-1])


def n_common(a: Ids, b: Ids) -> int:
    """How many tokens two texts begin with together."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def truncated(session: _core.Session, length: int) -> _core.Session | None:
    """A fork with so many tokens at most; None for none, and where layers with a window cannot go back to them."""
    if length == 0:
        return None
    fork = session.fork()
    if fork.length > length:
        try:
            fork.truncate(length)
        except ValueError:
            return None
    return fork


def _whole_pages(depth: int, *sessions: _core.Session | None) -> _core.Session | None:
    """A fork of the whole pages of the first `depth` tokens, of the first of these sessions that has them."""
    for session in sessions:
        n = 0 if session is None else min(session.length, depth) // _PAGE * _PAGE
        if session is not None and (found := truncated(session, n)) is not None:
            return found
    return None
