"""One reply on one channel: the responder's outcome as frames.

Knows no socket. Invariant: after `accepted` exactly one `done` or `error` with the same response_id
follows.
"""

import logging
from functools import partial

from anyio import to_thread

from amends.conversation import Turn
from amends.errors import (
    AmendsError,
    EngineBusy,
    IdempotencyConflict,
    ModelUnavailable,
    NotFound,
    StoreUnavailable,
)
from amends.prompt import MessageTooLong
from server.channels import Channel, Reply
from server.errors import TooManyRequests, Unauthorized
from server.protocol import Accepted, Done, Error, ErrorCode, Message, Token
from server.responder import EmptyMessage, Responder
from server.transcripts import sources_of

log = logging.getLogger(__name__)

_CODES: dict[type[AmendsError], ErrorCode] = {
    EmptyMessage: "empty_message",
    MessageTooLong: "message_too_long",
    IdempotencyConflict: "bad_frame",
    EngineBusy: "busy",
    TooManyRequests: "busy",
    ModelUnavailable: "busy",
    Unauthorized: "unauthorized",
    NotFound: "not_found",
}
RETRY_AFTER_S = 2.0


def as_frame(
    error: AmendsError, message_id: str | None = None, response_id: str | None = None
) -> Error:
    """A domain error as a frame."""
    code = _CODES.get(type(error), "internal")
    retry_after_s: float | None = None
    if isinstance(error, EngineBusy | TooManyRequests):
        retry_after_s = error.retry_after_s
    elif isinstance(error, ModelUnavailable | StoreUnavailable):
        retry_after_s = RETRY_AFTER_S
    message = str(error)
    if code == "internal":
        log.error("a message could not be answered: %s", error)
        message = "this could not be stored or finished now; please try again"
    return Error(
        code=code,
        message=message,
        message_id=message_id,
        response_id=response_id,
        retry_after_s=retry_after_s,
    )


async def reply_to(message: Message, responder: Responder, channel: Channel, reply: Reply) -> None:
    """Stores and answers a message on the channel."""
    prepare = partial(responder.prepare, channel.conversation_id, message.message_id, message.text)
    try:
        draft = await to_thread.run_sync(prepare)
    except AmendsError as error:
        channel.publish(as_frame(error, message.message_id))
        return
    response_id = reply.response_id
    channel.accept(
        Accepted(message_id=message.message_id, response_id=response_id, text=message.text)
    )

    def emit(text: str) -> None:
        channel.publish(Token(response_id=response_id, text=text))

    try:
        turn = await responder.respond(draft, emit, reply.scope, lambda: reply.stopped)
    except AmendsError as error:
        channel.publish(as_frame(error, message.message_id, response_id))
        return
    channel.publish(_done(turn, response_id))


def _done(turn: Turn, response_id: str) -> Done:
    return Done(
        response_id=response_id,
        turn_id=turn.turn_id,
        policy_version=turn.policy_version,
        origin=turn.origin,
        finish_reason=turn.finish_reason,
        sources=sources_of(turn),
        dropped_turns=turn.dropped_turns,
    )
