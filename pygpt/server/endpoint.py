"""Endpoints: a path, the form of what comes in and what goes out, and a handler. One description of all of it, from
which the routes and /openapi.json follow."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pygpt.server import log
from pygpt.server.call import Call, Service, check_media_type, check_open, read_body, until_gone
from pygpt.server.errors import ApiError, internal, of_any, unavailable

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

MAX_ITEMS = 10_000


def _bound_lists(schema: Any) -> None:
    """Of a schema and all within it."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind == "list":
            schema["fail_fast"] = True
        if kind == "dict" or (kind == "list" and schema.get("items_schema", {}).get("type") != "int"):
            schema["max_length"] = min(schema.get("max_length") or MAX_ITEMS, MAX_ITEMS)
        for value in schema.values():
            _bound_lists(value)
    elif isinstance(schema, (list, tuple)):
        for value in schema:
            _bound_lists(value)


class Form(BaseModel):
    """The base of what comes in: unknown fields are refused by name, and nothing is converted but an integer to a
    float. NaN and infinity are no JSON.

    Bodies are read on the event loop, where everyone waits meanwhile. So lists end at their first mistake, and but for
    token ids they have a most of items: a body of some megabytes could have a million mistakes or messages.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _bound_lists(schema)
        return schema


class Events(Response):
    """An answer that is sent piece by piece, as server-sent events unless told otherwise. It begins with the first
    piece: what goes wrong before has its own status. `failed` says how an error is told after that."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        failed: Callable[[ApiError], bytes] | None = None,
        media_type: str = "text/event-stream",
    ) -> None:
        headers = {"content-type": f"{media_type}; charset=utf-8", "cache-control": "no-cache"}
        super().__init__(headers={**headers, "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.has_begun = False
        self._pieces = pieces
        self._failed = failed or sse_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async for piece in self._pieces:
            if not self.has_begun:
                self.has_begun = True
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: ApiError, send: Send) -> None:
        """Tell of an error in the midst of the answer, and end it."""
        await send({"type": "http.response.body", "body": self._failed(error), "more_body": False})


def sse(data: str) -> bytes:
    """A server-sent event."""
    return f"data: {data}\n\n".encode()


def sse_error(error: ApiError) -> bytes:
    """As OpenAI tells of errors in a stream."""
    return sse(error.body.model_dump_json())


@dataclass(frozen=True)
class Endpoint:
    """What stands at a path. An ASGI application by itself."""

    method: Literal["GET", "POST"]
    path: str
    handler: Callable[..., Awaitable[BaseModel | Response]]
    form: type[BaseModel] | None  # of the body; None: there is none
    answer: type[BaseModel] | None  # of the answer; None: it is not JSON
    event: type[BaseModel] | None  # of the events of an answer that streams
    errors: tuple[int, ...]  # statuses, beside those that every endpoint may have
    is_open: bool  # without a key
    error_body: Callable[[ApiError], Mapping[str, Any]] | None  # of errors, where it is not OpenAI's
    event_type: str  # of an answer that streams

    @property
    def description(self) -> str:
        """Its handler's docstring."""
        return inspect.cleandoc(self.handler.__doc__ or "")

    def route(self) -> Route:
        return Route(self.path, self, methods=[self.method], name=self.handler.__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        service: Service = scope["app"].state.service
        call = Call(service, request, self.form)
        timer = asyncio.get_running_loop().call_later(service.settings.request_timeout, call.stop, "late")
        watch: asyncio.Task[None] | None = None
        response: Response | None = None
        service.calls.add(call)
        call.record.endpoint = self.path
        try:
            if not self.is_open:
                service.hosts.check(request)
                call.record.client = service.keys.check(request) or call.record.client
            if self.form is not None:  # what there is to see, metrics above all, is seen to the end
                check_open(service)
            arguments: list[object] = [call]
            if self.form is not None:
                check_media_type(request)
                arguments.append(self.form.model_validate_json(await read_body(call, receive)))
            watch = asyncio.create_task(until_gone(call, receive))
            answer = await self.handler(*arguments)
            response = answer if isinstance(answer, Response) else json_response(answer)
            await response(scope, receive, send)
        except asyncio.CancelledError:
            if call.stopped is None:
                raise  # the server stops
            call.record.finish.add(call.stopped)
            if call.stopped != "gone":
                telling = self._tell(_STOPPED[call.stopped](service), response, scope, receive, send)
                with contextlib.suppress(asyncio.TimeoutError):  # of a client that does not read
                    await asyncio.wait_for(telling, _LAST_WORDS)
        except Exception as error:
            known = of_any(error)
            if known is None:
                log.server.exception("request %s: %s %s", call.record.id, self.method, self.path)
                known = internal(call.record.id)
            call.record.finish.add("error")
            await self._tell(known, response, scope, receive, send)
        finally:
            timer.cancel()
            call.close()
            service.calls.discard(call)
            if watch is not None:
                watch.cancel()

    async def _tell(
        self, error: ApiError, response: Response | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer with an error, if nothing was sent yet, or in the midst of what was."""
        if isinstance(response, Events) and response.has_begun:
            await response.fail(error, send)
        else:
            body = error.body.model_dump() if self.error_body is None else self.error_body(error)
            await JSONResponse(body, error.status, error.headers)(scope, receive, send)


_LAST_WORDS = 1.0  # seconds to tell a client why its answer ends
_STOPPED: Mapping[str, Callable[[Service], ApiError]] = {
    "late": lambda service: ApiError(
        504, f"the answer took longer than {service.settings.request_timeout:g} seconds", code="timeout"
    ),
    "shutdown": lambda service: unavailable("the server is shutting down"),
    "slow body": lambda service: ApiError(
        408,
        f"the body took longer than {service.settings.body_timeout:g} seconds",
        code="timeout",
        headers={"connection": "close"},
    ),
}


def json_response(answer: BaseModel) -> Response:
    """A form as JSON."""
    return Response(answer.model_dump_json(), media_type="application/json")


async def large_response(make: Callable[[], BaseModel], items: str) -> Response:
    """The same of an answer that may have some megabytes, made and written in a thread: the event loop does not wait.
    items: the name of its list, whose items are written one by one, since nothing else in Python goes on meanwhile."""

    def write() -> Response:
        answer = make()
        rest = answer.model_copy(update={items: []}).model_dump_json()
        before, name, after = rest.partition(f'"{items}":[')
        parts = ",".join(item.model_dump_json() for item in getattr(answer, items))
        return Response(f"{before}{name}{parts}{after}", media_type="application/json")

    return await asyncio.to_thread(write)


def endpoint(
    method: Literal["GET", "POST"],
    path: str,
    *,
    form: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    event: type[BaseModel] | None = None,
    errors: tuple[int, ...] = (),
    is_open: bool = False,
    error_body: Callable[[ApiError], Mapping[str, Any]] | None = None,
    event_type: str = "text/event-stream",
) -> Callable[[Callable[..., Awaitable[BaseModel | Response]]], Endpoint]:
    """Makes an endpoint of ``async def handler(call)``, or ``handler(call, form)`` where there is a form: it returns an
    answer's form or a response. Its docstring describes the endpoint.

    What the handler raises becomes an answer: see `pygpt.server.errors`. It is cancelled when the client goes away or
    the time is up, and what it took through the call is given back.
    """

    def decorate(handler: Callable[..., Awaitable[BaseModel | Response]]) -> Endpoint:
        return Endpoint(method, path, handler, form, answer, event, errors, is_open, error_body, event_type)

    return decorate
