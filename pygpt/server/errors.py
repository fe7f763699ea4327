"""Errors as OpenAI's API has them: one table from what went wrong to a status and a body."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pygpt.errors import Cancelled, ContextOverflowError, Overloaded, PygptError


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not 2xx."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer other than 2xx."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = ErrorBody(error=ErrorDetail(message=message, type=_type_of(status), param=param, code=code))

    def response(self) -> JSONResponse:
        return JSONResponse(self.body.model_dump(), self.status, self.headers)


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Status 400."""
    return ApiError(400, message, param=param, code=code)


def too_large(most: int) -> ApiError:
    """Status 413."""
    return ApiError(413, f"the body is larger than {most} bytes")


def overloaded(message: str, *, seconds: int = 1) -> ApiError:
    """Status 429: come back in so many seconds."""
    return ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": str(seconds)})


def unavailable(message: str, *, seconds: int = 5) -> ApiError:
    """Status 503: come back in so many seconds."""
    return ApiError(503, message, code="unavailable", headers={"retry-after": str(seconds)})


def of_input(error: Exception, form: type[BaseModel] | None = None) -> ApiError:
    """What pygpt says about a request that it was given: a call's own errors are the client's mistakes. The parameter
    is the one that the message begins with, if the form has it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Overloaded):
        return overloaded(str(error))
    if isinstance(error, ContextOverflowError):
        return bad_request(str(error), code="context_length_exceeded")
    message = str(error)
    first = message.split(" ", 1)[0]
    return bad_request(message, param=first if form is not None and first in form.model_fields else None)


def of_validation(error: ValidationError) -> ApiError:
    """What pydantic says about a body: its first objections, and the place of the first as the parameter."""
    if error.error_count() > _TOO_MANY:  # to list them takes longer than anyone should wait
        return bad_request(f"the body has {error.error_count()} mistakes")
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return bad_request(f"the body is not valid JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}")
    param = _place(found[0]["loc"])
    unknown = found[0]["type"] == "extra_forbidden"
    message = "; ".join(dict.fromkeys(_objection(one) for one in found[:_MOST]))
    return bad_request(message, param=param or None, code="unknown_parameter" if unknown else "invalid_value")


def of_any(error: Exception) -> ApiError | None:
    """The answer to an error in a request; None for one that pygpt does not expect, which is its own mistake."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return of_validation(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, error.detail, headers=error.headers)
    if isinstance(error, Overloaded):
        return overloaded(str(error))
    if isinstance(error, Cancelled):
        return unavailable("the request was cancelled, because the server stops")
    if isinstance(error, MemoryError):
        return unavailable("the server is out of memory")
    if isinstance(error, PygptError):
        return of_input(error)
    return None


def internal(request_id: str) -> ApiError:
    """Status 500, without a word of what happened: that stands in the log, under the request's id."""
    return ApiError(500, f"an error within the server; its log has it under the request id {request_id}")


_MOST = 5  # objections in a message
_TOO_MANY = 1000


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _objection(one: Mapping[str, Any]) -> str:
    place = _place(one["loc"]) or "the body"
    if one["type"] == "extra_forbidden":
        return f"unknown parameter: {place}"
    if one["type"] == "missing":
        return f"missing parameter: {place}"
    message = one["msg"].removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}"


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def _type_of(status: int) -> str:
    if status >= 500:
        return "server_error"
    return _TYPES.get(status, "invalid_request_error")


def http_error(status: int, where: str, headers: Mapping[str, str] | None = None) -> ApiError:
    """An answer of the router's: there is nothing at `where`, a method and a path."""
    return ApiError(status, f"{where:.200}: {HTTPStatus(status).phrase.lower()}", headers=headers)
