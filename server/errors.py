"""Domain errors as HTTP answers: the one place that knows both.

Every error body is {"error": {"code", "message"}}. Invariant: a message of an error that nobody
raised on purpose never reaches a client, nor does the store's address.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from amends import errors
from amends.record import Record

log = logging.getLogger(__name__)

_STATUS: Final[Mapping[type[errors.AmendsError], tuple[int, str]]] = {
    errors.NotFound: (404, "not_found"),
    errors.InvalidInput: (422, "invalid_input"),
    errors.IdempotencyConflict: (409, "idempotency_conflict"),
    errors.BadTransition: (409, "bad_transition"),
    errors.LeaseLost: (409, "lease_lost"),
    errors.AdapterRefused: (409, "adapter_refused"),
    errors.NotEnoughData: (409, "not_enough_data"),
    errors.StoreUnavailable: (503, "store_unavailable"),
    errors.ModelUnavailable: (503, "model_unavailable"),
    errors.EngineBusy: (503, "busy"),
    errors.SettingsError: (500, "settings"),
}
_CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    429: "too_many_requests",
    503: "unavailable",
}


class Problem(Record):
    code: str = Field(description="for programs, e.g. not_found")
    message: str = Field(description="for people: what was expected, what came, what to do")


class ProblemBody(Record):
    """The body of every error."""

    error: Problem


# What OpenAPI says of our own routes.
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {
        "model": ProblemBody,
        "description": "401 without the right token, 404 for what does not exist or is somebody "
        "else's, 409 for what cannot be done now, 413 for too large a body, 422 for what is not as "
        "expected, 429 with Retry-After when a limit is used up",
    },
    "5XX": {
        "model": ProblemBody,
        "description": "503 while the store or the policy cannot be used; Retry-After may say when",
    },
}


class Unauthorized(errors.AmendsError):
    """No token, a wrong one, or an expired one."""


class Forbidden(errors.AmendsError):
    """A form without the token that our own page would have sent."""


class TooManyRequests(errors.AmendsError):
    """A limit is used up; `retry_after_s` says when to come back."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def status_of(error: errors.AmendsError) -> tuple[int, str]:
    """HTTP status and code of a domain error; subclasses count as their base."""
    if isinstance(error, Unauthorized):
        return 401, "unauthorized"
    if isinstance(error, Forbidden):
        return 403, "forbidden"
    if isinstance(error, TooManyRequests):
        return 429, "too_many_requests"
    for kind, answer in _STATUS.items():
        if isinstance(error, kind):
            return answer
    return 500, "internal"


def text_of(error: errors.AmendsError) -> str:
    """What a client may read of it."""
    if isinstance(error, errors.StoreUnavailable):
        log.error("a request found no store: %s", error)  # names its host and port
        return "the store cannot be used now; try again in a moment"
    return str(error)


def body(code: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message}}


def install(app: FastAPI) -> None:
    """Registers the handlers on the application."""
    app.add_exception_handler(errors.AmendsError, _domain)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _domain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.AmendsError)
    status, code = status_of(error)
    headers = {}
    if isinstance(error, TooManyRequests | errors.EngineBusy):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body(code, text_of(error)), status, headers)


def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = dict(error.errors()[0])
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse(body("invalid_input", f"{where}: {first['msg']}"), 422)


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "error")
    return JSONResponse(body(code, str(error.detail)), error.status_code, error.headers)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(body("internal", "an unexpected error; the server's log says more"), 500)
