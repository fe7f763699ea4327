"""The application: its routes, and what lives as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from pygpt.delivery import Hub
from pygpt.server import basics
from pygpt.server.call import Service
from pygpt.server.endpoint import Endpoint
from pygpt.server.errors import http_error
from pygpt.server.models import Models
from pygpt.server.settings import Settings

ROUTES: Sequence[Endpoint | BaseRoute] = [*basics.ROUTES]
"""Those of all modules."""


def create_app(settings: Settings) -> Starlette:
    """The ASGI application. The first model is loaded when it starts, the others when they are asked for.

    CheckpointError: a model that is not there.
    """
    models = Models(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.service = Service(settings, models, Hub(asyncio.get_running_loop()))
        try:
            models.release(await models.acquire(models.names[0]))
            yield
        finally:
            await models.close()

    return Starlette(
        routes=[route.route() if isinstance(route, Endpoint) else route for route in ROUTES],
        exception_handlers={HTTPException: _http_exception},
        lifespan=lifespan,
    )


async def _http_exception(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    answer = http_error(error.status_code, f"{request.method} {request.url.path}", error.headers)
    return answer.response()
