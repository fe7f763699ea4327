"""Watching a run and stopping it: what `pretrain` and `finetune` tell while they work, and how they are ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from pygpt.training.metrics import Record
from pygpt.training.plan import Plan
from pygpt.training.primitives import PLAIN, Array, Ids, Logits, Primitives
from pygpt.training.state import Progress

_SCORES = 1 << 24  # logits computed between two questions whether to stop


class Watcher:
    """What a run calls; nothing happens in these, so a class of one's own has those that it wants. They are called in
    the thread that trains; only `stop` and `preparing` may be called in another one, too."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """So many of `total` bytes, or of chats, are read; `what` is done with them."""

    def planned(self, plan: Plan) -> None:
        """What the run will do. It is estimated from the size of the files first, and exact before the first step."""

    def noticed(self, message: str) -> None:
        """Something about the data that is no error."""

    def stepped(self, record: Record, progress: Progress) -> None:
        """A step is done, or the evaluation before the first: the line of metrics.jsonl, and how far the run is."""

    def stop(self) -> bool:
        """Whether the run is to end. It is asked many times a second; the state is saved before the run ends."""
        return False


class Stopped(Exception):  # noqa: N818 - not an error
    """The run was asked to end. It never leaves `pygpt.training`."""


class _Stoppable:
    def __init__(self, primitives: Primitives, should_stop: Callable[[], bool]) -> None:
        self._primitives, self._should_stop = primitives, should_stop

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._primitives, name)
        if not callable(function):
            return function

        def ask_first(*arguments: Any) -> Any:
            self._ask()
            return function(*arguments)

        setattr(self, name, ask_first)  # looked up once
        return ask_first

    def cross_entropy(
        self, hidden: Array, weight: Array, targets: Ids, scale: float, dweight: Array | None, logits: Logits = PLAIN
    ) -> tuple[float, Array | None]:
        """Some rows at a time: with a large vocabulary this is a tenth of a step, and the longest operation of all."""
        n_rows = max(1, _SCORES // len(weight) // 64 * 64)
        nats, parts = 0.0, []
        for at in range(0, len(hidden), n_rows):
            self._ask()
            rows = slice(at, at + n_rows)
            some, dhidden = self._primitives.cross_entropy(hidden[rows], weight, targets[rows], scale, dweight, logits)
            nats += some
            parts.append(dhidden)
        if len(parts) == 1:
            return nats, parts[0]
        return nats, None if dweight is None else np.concatenate([part for part in parts if part is not None])

    def _ask(self) -> None:
        if self._should_stop():
            raise Stopped


def stoppable(primitives: Primitives, should_stop: Callable[[], bool]) -> Primitives:
    """The same functions, each of which first raises `Stopped` if it should: for a network, not for an optimiser, whose
    update must be whole."""
    return cast(Primitives, _Stoppable(primitives, should_stop))
