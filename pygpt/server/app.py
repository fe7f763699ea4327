"""The application: its routes, and what lives as long as it runs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from pygpt.delivery import Hub
from pygpt.server import basics, ollama, openai, openapi, static
from pygpt.server.auth import Hosts, Keys
from pygpt.server.call import Service
from pygpt.server.endpoint import Endpoint
from pygpt.server.errors import http_error
from pygpt.server.metrics import Metrics
from pygpt.server.models import Models
from pygpt.server.observe import Observed
from pygpt.server.settings import Settings
from pygpt.server.trace import Tracing

ROUTES: Sequence[Endpoint | BaseRoute] = [
    *basics.ROUTES,
    *openapi.ROUTES,
    *openai.ROUTES,
    *ollama.ROUTES,
    *static.ROUTES,
]
"""Those of all modules."""

_CORS_HEADERS = ("authorization", "content-type", "x-api-key", "x-request-id")


def create_app(settings: Settings) -> Starlette:
    """The ASGI application. The first model is loaded when it starts, the others when they are asked for. Limits on
    connections are uvicorn's part, as `pygpt.server.run` sets it up: behind another server they are that one's.

    CheckpointError: a model that is not there. OSError, ValueError: a file of keys that cannot be used.
    """
    models, keys = Models(settings), Keys.of(settings)
    hosts, metrics = Hosts(settings, keys), Metrics(lambda: models.loaded)
    endpoints = [route for route in ROUTES if isinstance(route, Endpoint)]
    # Who shows no key may read the description, but not which models there are.
    description = functools.cache(lambda: openapi.describe(endpoints, () if keys else models.names))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.service = Service(
            settings, models, Hub(asyncio.get_running_loop()), hosts, keys, metrics, description
        )
        try:
            models.release(await models.acquire(models.names[0]))
            yield
        finally:
            await models.close()

    middleware = [Middleware(Observed, metrics, Tracing() if settings.trace else None)]
    if settings.cors_origin:
        origins, expose = list(settings.cors_origin), ("x-request-id",)
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=("GET", "POST"),
                allow_headers=_CORS_HEADERS,
                expose_headers=expose,
            )
        )
    app = Starlette(
        routes=[route.route() if isinstance(route, Endpoint) else route for route in ROUTES],
        middleware=middleware,
        exception_handlers={HTTPException: _http_exception},
        lifespan=lifespan,
    )
    app.state.models = models
    return app


async def _http_exception(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    return http_error(error.status_code, f"{request.method} {request.url.path}", error.headers).response()
