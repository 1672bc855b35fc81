"""Who calls a route, as FastAPI dependencies.

Knows requests and server.auth. Invariant: a route that names Visitor, Staff or MetricsReader is
never reached by anybody else.
"""

from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from server.auth import STAFF_NAME, bearer, staff_name
from server.state import State

# Only so that OpenAPI says it; the checks are ours, because both kinds of token look alike.
_documented = HTTPBearer(auto_error=False, description="visitor token, or the staff token")
Documented = Annotated[object, Depends(_documented)]


def state_of(connection: HTTPConnection) -> State:
    state: State = connection.app.state.amends
    return state


def address_of(connection: HTTPConnection) -> str:
    """The network address that limits are counted by."""
    return connection.client.host if connection.client is not None else "unknown"


StateOf = Annotated[State, Depends(state_of)]


def _visitor(request: Request, state: StateOf, _: Documented = None) -> str:
    return state.auth.visitor(bearer(request.headers.get("authorization")))


def _staff(
    request: Request,
    state: StateOf,
    name: Annotated[
        str,
        Header(
            alias="Amends-Staff-Name",
            description="who judges or decides, in UTF-8; recorded, and proves nothing",
        ),
    ] = STAFF_NAME,
    _: Documented = None,
) -> str:
    state.auth.require_staff(bearer(request.headers.get("authorization")))
    return staff_name(name.encode("latin-1").decode("utf-8", "replace"))  # ASGI reads Latin-1


def _metrics_reader(request: Request, state: StateOf, _: Documented = None) -> None:
    state.auth.require_metrics(bearer(request.headers.get("authorization")))


Visitor = Annotated[str, Depends(_visitor)]
Staff = Annotated[str, Depends(_staff)]
MetricsReader = Annotated[None, Depends(_metrics_reader)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="the same key again changes nothing; unset: the judgement itself decides",
    ),
]
