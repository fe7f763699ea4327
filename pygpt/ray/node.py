"""The server's application on a node of the cluster."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractAsyncContextManager

from pygpt import checkpoint
from pygpt.jobs.asgi import App, running
from pygpt.server.app import create_app
from pygpt.server.settings import Settings, named_sources


class Node:
    """Makes the application when it is asked for the first time, on the event loop that asks."""

    def __init__(self, settings: Settings) -> None:
        """Each node finds, or downloads, the models by itself."""
        paths = [f"{name}={checkpoint.locate(source)}" for name, source in named_sources(settings.models).items()]
        # Names are Ray's business: its proxies listen, not the application.
        self._app: App = create_app(dataclasses.replace(settings, models=paths, allowed_host=("*",)))
        self._running: AbstractAsyncContextManager[None] = running(self._app)

    async def start(self) -> App:
        """The application, with its first model in memory. Once."""
        await self._running.__aenter__()
        return self._app

    async def stop(self) -> None:
        """End it."""
        await self._running.__aexit__(None, None, None)
