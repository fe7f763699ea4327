"""Whose turn it is."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_NAMES = 1024  # that are remembered


class Turns:
    """Serves several in turns: next is always the one that was served longest ago, or never."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}  # when, the earliest first
        self._n = 0

    def next(self, names: Iterable[str]) -> str:
        """Whose turn it is of these, which are not none."""
        return min(names, key=self.age)

    def age(self, name: str) -> int:
        """The less, the longer ago it was served."""
        return self._served.get(name, 0)

    def serve(self, name: str) -> None:
        """It is served now."""
        self._n += 1
        self._served.pop(name, None)
        self._served[name] = self._n
        if len(self._served) > _MOST_NAMES:
            del self._served[next(iter(self._served))]
