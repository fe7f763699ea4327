"""The server over Ray Serve: replicas on the nodes of a cluster, and the turns of a conversation on one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ray import get_runtime_context, serve
from ray.exceptions import RayActorError
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pygpt.jobs.asgi import Message, Scope, respond
from pygpt.ray.affinity import conversation_of
from pygpt.ray.node import Node
from pygpt.server.errors import too_large
from pygpt.server.settings import Settings

# Each of the ingress's processes computes by itself, from what they all know of the replicas, which one has a
# conversation, and which others follow where that one is full or dead. `PrefixCacheAffinityRouter` is no choice: it
# needs vLLM or SGLang to be imported, and keeps its tree in one actor, without which no request finds its way.
_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
_SCOPE = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client", "server")


def deployment(settings: Settings, *, replicas: int = 1, cpus: float | None = None) -> serve.Application:
    """The application for ``ray.serve.run``: what `pygpt serve` serves, on so many replicas.

    settings: of each of them. Keys, limits and the models' names are those of `pygpt serve`; what concerns its socket
        is Ray Serve's.
    cpus: processors that a replica takes of its node; None: `settings.threads`, or 1.

    Requests of one conversation go to one replica, which therefore holds its prefix, until that is full or dies; then
    to the next. A request whose replica dies before it began to answer is asked again; one that the node had only to
    pass on which dies is lost to its client, who asks again, as the openai client does by itself.
    """
    settings = dataclasses.replace(settings, allowed_host=settings.allowed_host or ["*"])  # Ray Serve listens, not we
    server = serve.deployment(
        _Server,
        name="Server",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus if cpus is not None else settings.threads or 1},
        max_ongoing_requests=2 * settings.max_running,  # as many wait as are computed; then the next replica is better
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
    ).bind(settings)
    ingress = serve.deployment(
        _Ingress,
        name="Ingress",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=settings.max_connections,
    )
    application: serve.Application = ingress.bind(server, replicas, settings.max_body)
    return application


def build_app(arguments: Mapping[str, Any]) -> serve.Application:
    """For ``serve run pygpt.ray:build_app models=MODEL replicas=4`` and for Ray Serve's configuration files: the
    arguments of `deployment` and the fields of `Settings`, by name. ValueError: what is wrong with one of them."""
    given = dict(arguments)
    own = {name: read(given.pop(name)) for name, read in _OWN.items() if name in given}
    if isinstance(given.get("models"), str):
        given["models"] = given["models"].split(",")
    try:
        settings = TypeAdapter(Settings).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return deployment(settings, **own)


_OWN: Mapping[str, Callable[[Any], Any]] = {"replicas": int, "cpus": float}  # arguments, as texts may give them


class _Server:
    """A replica: the application without a socket."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray Serve waits for it
        self._node = Node(settings)
        self._app = await self._node.start()

    async def respond(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """The messages that the application sends, with the names of replica and node. Ray ends it when the client goes
        away."""
        name = f"{serve.get_replica_context().replica_id.unique_id}@{get_runtime_context().get_node_id()}"
        async for message in respond(self._app, {**scope, "asgi": {"version": "3.0"}, "root_path": ""}, body):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-replica", name.encode())]
            yield message

    async def __del__(self) -> None:
        await self._node.stop()


class _Ingress:
    """Reads a request, so that its conversation is known, and passes on what its replica answers."""

    def __init__(self, server: DeploymentHandle[Any], n_replicas: int, max_body: int) -> None:
        self._server = server.options(method_name="respond", stream=True)
        self._n_tries, self._max_body = n_replicas + 1, max_body

    async def __call__(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > self._max_body:
                return too_large(self._max_body).response()
        scope = {name: request.scope[name] for name in _SCOPE if name in request.scope}
        server = self._server.options(session_id=conversation_of(body))
        for n_left in reversed(range(self._n_tries)):
            messages = server.remote(scope, body)
            try:
                start = await anext(messages)
            except RayActorError:
                if not n_left:
                    raise
            else:
                break
        response = StreamingResponse(_bodies(messages), start["status"])
        response.raw_headers = list(start["headers"])
        return response


async def _bodies(messages: AsyncIterator[Message]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message.get("body", b"")
