"""A server in the process of the test: its application, asked through httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest

from pygpt.server.app import create_app
from pygpt.server.settings import Settings

_Result = TypeVar("_Result")


@asynccontextmanager
async def client_of(settings: Settings, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server", **options) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """Runs ``async def use(client)`` with a client of a server of "tiny", or of the settings that are given."""

    def run(
        use: Callable[[httpx.AsyncClient], Awaitable[_Result]], *models: str, headers: Any = None, **settings: Any
    ) -> _Result:
        async def main() -> _Result:
            made = Settings(models=models or ("tiny",), **{"threads": 1, **settings})
            async with client_of(made, headers=headers) as client:
                return await use(client)

        return asyncio.run(main())

    return run
