"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}.

Knows server.errors, which has the statuses of domain errors; here they get a param and OpenAI's
codes. Does not cover another method (405) and errors that nobody foresaw (500): those have the
server's own shape, code and message.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from amends.errors import AmendsError, EngineBusy, InvalidInput, ModelUnavailable
from amends.record import Record
from server.errors import TooManyRequests, Unauthorized, status_of, text_of
from server.model_names import ModelNotLoaded, UnknownModel
from server.raw_policy import ContextTooLong
from server.routes.client_gone import ClientGone

LOADING_S: Final = 2.0  # when to come back while the policy loads
_KINDS: Final[tuple[tuple[type[AmendsError], int, str, str | None], ...]] = (
    (Unauthorized, 401, "invalid_api_key", None),
    (UnknownModel, 404, "model_not_found", "model"),
    (ModelNotLoaded, 409, "model_not_loaded", "model"),
    (ContextTooLong, 400, "context_length_exceeded", "messages"),
    (InvalidInput, 400, "invalid_value", "messages"),
)
_CODES: Final = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "unsupported": "unsupported_parameter",
    "json_invalid": "invalid_json",
}


class ErrorDetail(Record):
    message: str
    type: str = Field(examples=["invalid_request_error", "rate_limit_error", "server_error"])
    param: str | None = None
    code: str | None = None


class ErrorBody(Record):
    """Every 4XX and 5XX of these routes."""

    error: ErrorDetail


class OpenAIRoute(APIRoute):
    """A route whose errors have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except AmendsError as error:
                return _domain(error)
            except RequestValidationError as error:
                return _validation(error)
            except HTTPException as error:
                code = "request_too_large" if error.status_code == 413 else None
                return _json(error.status_code, str(error.detail), None, code, error.headers)
            except ClientGone:
                return Response(status_code=499)  # nobody reads it

        return handle


def detail_of(error: AmendsError) -> tuple[int, ErrorDetail]:
    """Status and body of a domain error."""
    for kind, status, code, param in _KINDS:
        if isinstance(error, kind):
            return status, _detail(status, text_of(error), param, code)
    status, code = status_of(error)
    return status, _detail(status, text_of(error), None, code)


def _domain(error: AmendsError) -> JSONResponse:
    status, detail = detail_of(error)
    headers = {}
    if isinstance(error, EngineBusy | TooManyRequests):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    elif isinstance(error, ModelUnavailable):
        headers["Retry-After"] = str(round(LOADING_S))
    elif status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)


def _validation(error: RequestValidationError) -> JSONResponse:
    first: dict[str, Any] = dict(error.errors()[0])
    kind: str = first["type"]
    if kind == "json_invalid":
        return _json(400, f"the body is not JSON: {first['ctx']['error']}", None, _CODES[kind])
    param = first.get("ctx", {}).get("param") or _param(first["loc"][1:])
    said = "is not a parameter" if kind == "extra_forbidden" else first["msg"]
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    return _json(400, f"{param or 'body'}: {said}", param, code)


def _param(where: tuple[str | int, ...]) -> str | None:
    """As OpenAI writes it: messages[1].content"""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return written.removeprefix(".") or None


def _json(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Any = None,
) -> JSONResponse:
    body = ErrorBody(error=_detail(status, message, param, code))
    return JSONResponse(body.model_dump(), status, headers)


def _detail(status: int, message: str, param: str | None, code: str | None) -> ErrorDetail:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    kind = "rate_limit_error" if status == 429 else kind
    return ErrorDetail(message=message, type=kind, param=param, code=code)
