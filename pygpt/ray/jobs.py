"""The requests of a job over Ray Data: a model on each share of a node, and answers that come back as they are made."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayError

from pygpt.jobs import Item, Record, Work, ask
from pygpt.jobs.requests import parse
from pygpt.ray.node import Node
from pygpt.server.settings import Settings

_PORTION = 64  # requests that go to a node together: what is lost with it, and made again
_PORTIONS_AT_ONCE = 3  # of a model, so that it has work while the last answers of a portion come

_Lines = dict[str, NDArray[Any]]  # "line": their numbers, "data": their bytes


def answer_on(address: str, source: Path, settings: Settings) -> Work:
    """A `Work` over the nodes of a Ray cluster: "auto", "local" or HOST:PORT.

    A model has `settings.threads` processors of a node to itself, or as many as the smallest node has; nodes with more
    have several models. Only this machine needs to have the file; each node reads the model by itself. The requests of
    a node that dies go to the others. ConnectionError: the cluster is lost, or was never there.
    """

    def work(items: Iterator[Item]) -> Iterator[Sequence[Record]]:
        offsets = [(item.line, item.offset) for item in items]
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
            yield from _answers(source, offsets, settings)
        except (RayError, ConnectionError, RuntimeError) as error:
            raise ConnectionError(f"Ray at {address}: {' '.join(str(error).split()):.500}") from error

    return work


def _answers(source: Path, offsets: list[tuple[int, int]], settings: Settings) -> Iterator[Sequence[Record]]:
    threads, n_models = _shares([node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]], settings)
    n = max(1, min(_PORTION, len(offsets) // (_PORTIONS_AT_ONCE * n_models)))
    portions = [{"lines": offsets[i : i + n]} for i in range(0, len(offsets), n)]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    answers = (
        ray.data.from_items(portions, override_num_blocks=len(portions))
        .flat_map(_Reader(source.resolve()), num_cpus=0, label_selector=here)
        .map_batches(
            _Answerer,
            fn_constructor_args=[dataclasses.replace(settings, threads=threads)],
            batch_size=None,  # a portion
            compute=ray.data.ActorPoolStrategy(
                size=n_models,
                max_tasks_in_flight_per_actor=2 * _PORTIONS_AT_ONCE,
                max_concurrent_calls_per_actor=_PORTIONS_AT_ONCE,
            ),
            num_cpus=threads,
        )
    )
    for batch in answers.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        yield [json.loads(record) for record in batch["record"]]


def _shares(n_cpus: Sequence[float], settings: Settings) -> tuple[int, int]:
    """The threads of a model, and how many models there are. ConnectionError: no node has so many processors."""
    of_nodes = [int(n) for n in n_cpus if n >= 1]
    threads = settings.threads or min(of_nodes, default=1)
    n_models = sum(n // threads for n in of_nodes)
    if not n_models:
        raise ConnectionError(f"no node has {threads} processors free for a model: they have {of_nodes}")
    return threads, n_models


class _Reader:
    """Reads the lines of a portion, on the machine of the driver."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def __call__(self, portion: dict[str, Any]) -> Iterator[dict[str, Any]]:
        with self._source.open("rb") as file:
            for line, offset in portion["lines"]:
                file.seek(offset)
                yield {"line": line, "data": file.readline()}


class _Answerer:
    """A model in an actor of its own."""

    def __init__(self, settings: Settings) -> None:
        self._node = Node(settings)
        self._app: asyncio.Task[Any] | None = None

    async def __call__(self, lines: _Lines) -> AsyncIterator[_Lines]:
        if self._app is None:
            self._app = asyncio.create_task(self._node.start())
        app = await asyncio.shield(self._app)
        items = [parse(int(line), bytes(data)) for line, data in zip(lines["line"], lines["data"], strict=True)]
        records = await asyncio.gather(*(ask(app, item) for item in items))
        yield {"record": np.array([json.dumps(record) for record in records])}
