"""The OpenAI-compatible routes: chat completions of the policy alone, and the models there are.

Knows HTTP; the policy writes without documents and rules here, and nothing is stored. What is
understood stands in docs/openai.md. Invariants: staff only; an error before the first token has
its own status; a client that goes frees what the engine was writing for it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server.model_names import NamedModel, name_of
from server.raw_policy import Piece, Prepared
from server.routes.callers import Staff, StateOf
from server.routes.client_gone import EventStream, while_connected
from server.routes.openai_completion import Completion
from server.routes.openai_errors import ErrorBody, OpenAIRoute
from server.routes.openai_schema import ChatCompletion, ChatRequest, Model, ModelList
from server.state import Policy

router = APIRouter(
    prefix="/v1",
    tags=["OpenAI-compatible"],
    route_class=OpenAIRoute,
    responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
)


@router.post("/chat/completions", response_model=ChatCompletion)
async def create_chat_completion(
    body: ChatRequest, request: Request, state: StateOf, staff: Staff
) -> Response:
    """The policy's own response to these messages, whole or as server-sent events; nothing is
    stored.
    """
    policy = state.require_policy()
    prepared = await to_thread.run_sync(_prepare, policy, body)
    completion = Completion(
        prepared.version,
        policy.adapters.base_hash,
        len(prepared.prompt_ids),
        body.n,
        body.logprobs,
    )
    pieces = policy.raw.write(prepared)
    if body.stream:
        first = await while_connected(request, _first(pieces))
        return EventStream(completion.events(first, pieces, body.include_usage), pieces)
    async with aclosing(pieces):
        whole = await while_connected(request, completion.whole(pieces))
    return JSONResponse(whole.model_dump())


@router.get("/models")
def list_models(state: StateOf, staff: Staff) -> ModelList:
    """Every name that can be asked for now."""
    return ModelList(data=[_model(named) for named in state.require_policy().names.listed()])


@router.get("/models/{model}")
def retrieve_model(model: str, state: StateOf, staff: Staff) -> Model:
    """Which version a name means now; 409 when that version is not loaded."""
    return _model(state.require_policy().names.model(model))


def _prepare(policy: Policy, body: ChatRequest) -> Prepared:
    return policy.raw.prepare(body.ask(), policy.names.version(body.model))


async def _first(pieces: AsyncGenerator[Piece, None]) -> Piece:
    return await anext(pieces)


def _model(named: NamedModel) -> Model:
    return Model(id=named.name, created=int(named.created_at), root=name_of(named.version))
