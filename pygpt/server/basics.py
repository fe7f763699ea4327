"""The endpoints about the server itself: its health, its models."""

from __future__ import annotations

import contextlib
from typing import Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from pygpt.errors import PygptError
from pygpt.server.call import Call
from pygpt.server.endpoint import endpoint
from pygpt.server.errors import ApiError


class Health(BaseModel):
    """Whether new requests are taken."""

    status: Literal["ok", "draining"]


class Alive(BaseModel):
    """That the process answers."""

    status: Literal["alive"]


class ModelInfo(BaseModel):
    """A model, as OpenAI describes one, and what else a client may want to know of it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["pygpt"]
    max_model_len: int | None = Field(description="Its context in tokens; null: its files cannot be read.")
    has_chat_template: bool | None = Field(description="Whether it answers messages; if not, it continues texts.")


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[ModelInfo]


@endpoint("GET", "/health", answer=Health, errors=(503,), is_open=True)
async def health(call: Call) -> Response:
    """Whether new requests are taken: 503 and "draining" once the server was told to stop. For readiness probes."""
    draining = call.service.is_draining
    return JSONResponse({"status": "draining" if draining else "ok"}, 503 if draining else 200)


@endpoint("GET", "/live", answer=Alive, is_open=True)
async def live(call: Call) -> Alive:
    """That the process answers, also while it stops. For liveness probes."""
    return Alive(status="alive")


@endpoint("GET", "/metrics")
async def metrics(call: Call) -> Response:
    """Metrics in the form of Prometheus."""
    body, kind = call.service.metrics.text(call.request.headers.get("accept", ""))
    return Response(body, headers={"content-type": kind})


@endpoint("GET", "/v1/models", answer=ModelList)
async def list_models(call: Call) -> ModelList:
    """The models that requests may name, whether they are in memory or not."""
    return ModelList(object="list", data=[await _info(call, name) for name in call.service.models.names])


@endpoint("GET", "/v1/models/{model:path}", answer=ModelInfo, errors=(404,))
async def show_model(call: Call) -> ModelInfo:
    """One of the models."""
    name = call.request.path_params["model"]
    if name not in call.service.models.names:
        raise ApiError(404, f"the model {name!r:.200} does not exist", param="model", code="model_not_found")
    return await _info(call, name)


async def _info(call: Call, name: str) -> ModelInfo:
    n_ctx, has_template = None, None
    with contextlib.suppress(PygptError, OSError):  # of one, which hides no other
        found = await call.service.models.inspect(name)
        n_ctx = call.service.settings.n_ctx or (None if found.config is None else found.config.n_ctx)
        has_template = bool(found.chat_templates)
    return ModelInfo(
        id=name,
        object="model",
        created=call.service.models.created,
        owned_by="pygpt",
        max_model_len=n_ctx,
        has_chat_template=has_template,
    )


ROUTES = [health, live, metrics, list_models, show_model]
