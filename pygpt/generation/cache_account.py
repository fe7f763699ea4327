"""How much memory the keys and values of sequences take."""

from __future__ import annotations

from collections.abc import Sequence

from pygpt import _core
from pygpt.generation.params import integer
from pygpt.generation.plan import Entry, reader_of
from pygpt.generation.reading import Reading

PAGE = 64  # tokens, as csrc/kernels/attention.h
_DEFAULT_BYTES = 2**30  # where nobody says how much memory is free
_MOST_BYTES = 2**63 - 1


def share_memory(cache_bytes: int | None, prefix_bytes: int | None) -> tuple[int, int]:
    """The memory of keys and values in all, None: half of what is free; and what is for the prefixes, None: half of
    that. TypeError, ValueError: not a number, or not as many as there are."""
    cache_bytes = half_of_free() if cache_bytes is None else integer("cache_bytes", cache_bytes, 1, _MOST_BYTES)
    if prefix_bytes is None:
        return cache_bytes, cache_bytes // 2
    return cache_bytes, integer("prefix_bytes", prefix_bytes, 0, cache_bytes)


def half_of_free() -> int:
    """Half of the bytes of memory that nobody uses; a guess where nobody says."""
    free = _core.available_memory()
    return _DEFAULT_BYTES if free is None else max(free // 2, 1)


class CacheAccount:
    """What sequences of an engine take, and whether it is within a limit in bytes."""

    def __init__(self, engine: _core.Engine, n_ctx: int, limit: int) -> None:
        """ValueError: not even one page is within it."""
        self._engine, self.n_ctx, self.limit = engine, n_ctx, limit
        self._bytes: dict[int, int] = {}  # by the number of pages
        self._most = self.of(n_ctx) + self.of(PAGE)  # where windows end within a page, a shorter sequence takes more
        self.longest = n_ctx  # tokens of a sequence that is within the limit
        while self.longest and self.of(self.longest) > limit:
            self.longest = (self.longest - 1) // PAGE * PAGE
        if not self.longest:
            least = min(PAGE, n_ctx)
            raise ValueError(
                f"the keys and values of {least} tokens take {self.of(least)} bytes, and there is room for {limit}"
            )

    def of(self, length: int) -> int:
        """Bytes that a sequence of this length takes; one that is longer than the context, as many as that."""
        n_pages = -(-length // PAGE)
        found = self._bytes.get(n_pages)
        if found is None:
            found = self._bytes[n_pages] = self._engine.cache_bytes(min(n_pages * PAGE, self.n_ctx))
        return found

    def of_several(self, shared: int, length: int, n: int) -> int:
        """Bytes that n sequences of this length take, whose first `shared` tokens are the same."""
        return self.of(length) + (n - 1) * self._growth(shared, length, shares_page=True)

    def of_entry(self, entry: Entry, ahead: int) -> int:
        """Bytes that it takes by itself, so many tokens ahead of those that are known."""
        reader = reader_of(entry)
        n = 1 if isinstance(entry, Reading) else len(entry)
        return self.of_several(reader.n_tokens, min(reader.n_tokens + ahead, reader.longest), n)

    def of_entries(self, entries: Sequence[Entry], ahead: int = 0) -> int:
        """Bytes that they take, if they share nothing."""
        return sum(self.of_entry(entry, ahead) for entry in entries)

    def held(self, entries: Sequence[Entry]) -> int:
        """Bytes that their sessions hold; pages that they share count once."""
        return self._engine.held_bytes([reader_of(entry).session for entry in entries])

    def has_room(self, entries: Sequence[Entry], ahead: int, limit: int) -> bool:
        """Whether the entries stay within the limit while all that is known of them is read, and so many tokens ahead.
        What they share counts once, which takes longer to find out."""
        n = sum([len(entry) if isinstance(entry, list) else 1 for entry in entries])
        if n * self._most <= limit or self.of_entries(entries, ahead) <= limit:
            return True
        return self.held(entries) + sum(self._entry_growth(entry, ahead) for entry in entries) <= limit

    def _entry_growth(self, entry: Entry, ahead: int) -> int:
        reader = reader_of(entry)
        length, longest = reader.session.length, min(reader.n_tokens + ahead, reader.longest)
        n = 1 if isinstance(entry, Reading) else len(entry)
        more = self._growth(length, longest, shares_page=reader.shares_page)
        return more + (n - 1) * self._growth(reader.n_tokens, longest, shares_page=True)

    def _growth(self, length: int, longer: int, *, shares_page: bool) -> int:
        """Bytes that a sequence of the one length takes in addition when it has the other."""
        return max(self.of(longer) - self.of(length // PAGE * PAGE if shares_page else length), 0)
