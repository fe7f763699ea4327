"""Models by name: loaded when they are first asked for, one at a time, within a limit of memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pygpt import checkpoint
from pygpt.errors import ConfigError, PygptError
from pygpt.inspection import Inspection, inspect
from pygpt.model import Model
from pygpt.scheduler import Scheduler
from pygpt.server import log
from pygpt.server.errors import ApiError, unavailable
from pygpt.server.settings import GIB, Settings, named_sources


@dataclass(eq=False)
class Entry:
    """A model in memory."""

    name: str
    model: Model
    scheduler: Scheduler
    n_users: int = 0  # requests that hold it: it does not leave before they end
    last_used: float = 0.0  # time.monotonic()


class Models:
    """The models that a server offers. For the event loop's thread, except `sources` and `created`."""

    def __init__(self, settings: Settings) -> None:
        """CheckpointError: a source that is not there."""
        self.sources = named_sources(settings.models)
        self.created = int(time.time())
        self._settings = settings
        self._paths = {name: checkpoint.locate(source) for name, source in self.sources.items()}
        self._found: dict[str, Inspection] = {}
        self._entries: dict[str, Entry] = {}
        self._loading: dict[str, asyncio.Task[Entry]] = {}
        self._thread = ThreadPoolExecutor(1, "pygpt-load")  # one load at a time
        self._lock = asyncio.Lock()
        self._is_closed = False

    @property
    def names(self) -> Sequence[str]:
        return list(self.sources)

    @property
    def loaded(self) -> Sequence[Entry]:
        return list(self._entries.values())

    async def inspect(self, name: str) -> Inspection:
        """What a model is, whether it is in memory or not: its headers, read once. PygptError, OSError: they cannot be
        read."""
        if name not in self._found:
            self._found[name] = await asyncio.to_thread(inspect, self._paths[name])
        return self._found[name]

    async def acquire(self, name: str) -> Entry:
        """A model, which stays until `release`. ApiError: no such model, or one that cannot be loaded now."""
        if name not in self.sources:
            known = ", ".join(self.sources)
            message = f"the model {name!r:.200} does not exist; this server has {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        while (entry := self._entries.get(name)) is None:
            if self._is_closed:
                raise unavailable("the server stops")
            task = self._loading.get(name)
            if task is None:
                task = self._loading[name] = asyncio.create_task(self._load(name))
                task.add_done_callback(lambda done: self._loaded(name, done))
            await asyncio.shield(task)  # whoever goes away takes it from nobody else
        entry.n_users += 1
        return entry

    def release(self, entry: Entry) -> None:
        entry.n_users -= 1
        entry.last_used = time.monotonic()

    async def close(self) -> None:
        """Stop everything that still runs."""
        self._is_closed = True
        async with self._lock:
            for name in list(self._entries):
                await self._unload(name)
        self._thread.shutdown()

    def _loaded(self, name: str, task: asyncio.Task[Entry]) -> None:
        del self._loading[name]
        if not task.cancelled():
            task.exception()  # is the business of those who wait, if any still do

    async def _load(self, name: str) -> Entry:
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._is_closed:
                raise unavailable("the server stops")
            begun = time.monotonic()
            try:
                await self._make_room(name)
                entry = await loop.run_in_executor(self._thread, self._made, name, self._paths[name])
            except (PygptError, OSError, MemoryError) as error:
                log.server.error("model %s: cannot be loaded: %s", name, error)
                raise ApiError(500, f"the model {name!r} cannot be loaded; the server's log says why") from error
            self._entries[name] = entry
            log.server.info("model %s: loaded in %.1f s", name, time.monotonic() - begun)
            return entry

    def _made(self, name: str, path: Path) -> Entry:
        s = self._settings
        model = Model.load(path, weights=s.weights, kv=s.kv, threads=s.threads, isa=s.isa, n_ctx=s.n_ctx)
        scheduler = Scheduler(
            model,
            max_running=s.max_running,
            max_waiting=s.max_waiting,
            max_step_tokens=s.max_step_tokens,
            cache_bytes=None if s.cache_memory is None else int(s.cache_memory * GIB),
            prefix_bytes=None if s.prefix_memory is None else int(s.prefix_memory * GIB),
        )
        prefixes = self._prefix_file(name)
        if prefixes is not None and prefixes.exists():
            try:
                scheduler.load_prefixes(prefixes)
            except PygptError as error:  # of other weights, say: it is only slower without
                log.server.warning("model %s: begins without the prompts of before: %s", name, error)
        return Entry(name, model, scheduler, last_used=time.monotonic())

    def _prefix_file(self, name: str) -> Path | None:
        """Where a model's prefixes are kept; None: nowhere."""
        folder = self._settings.prefix_folder
        return None if folder is None else folder / f"{quote(name, safe='')}.prefixes"

    def _end(self, entry: Entry) -> None:
        """End a model's requests, and keep what was read of prompts."""
        entry.scheduler.close()
        path = self._prefix_file(entry.name)
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                entry.scheduler.save_prefixes(path)
            except OSError as error:
                log.server.error("model %s: its prompts cannot be kept: %s", entry.name, error)

    async def _make_room(self, name: str) -> None:
        """Let idle models leave, those first that nobody used for the longest time."""
        if self._settings.model_memory is None:
            return
        limit = int(self._settings.model_memory * GIB)
        loop = asyncio.get_running_loop()
        needed = await loop.run_in_executor(self._thread, self._weight_bytes, self._paths[name])
        if needed > limit:
            message = f"the model {name!r} needs {needed / GIB:.2f} GiB, and all may have {limit / GIB:.2f}"
            raise ApiError(500, message, code="model_too_large")
        while self._used() + needed > limit:
            idle = [entry for entry in self._entries.values() if not entry.n_users]
            if not idle:
                busy = ", ".join(self._entries)
                raise unavailable(f"no memory for the model {name!r} while others answer: {busy}")
            await self._unload(min(idle, key=lambda entry: entry.last_used).name)

    async def _unload(self, name: str) -> None:
        entry = self._entries.pop(name)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end, entry)
        log.server.info("model %s: left memory", name)

    def _used(self) -> int:
        return sum(entry.model.weight_bytes for entry in self._entries.values())

    def _weight_bytes(self, path: Path) -> int:
        """What a model will take, from its headers."""
        found = inspect(path)
        if found.problem is not None:
            raise ConfigError(f"{path}: {found.problem}")
        return found.weight_bytes()[self._settings.weights or "int8"]
