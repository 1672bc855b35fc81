"""Sessions of visitors, and conversations as their visitor or the staff may read them.

Knows HTTP; decides nothing. Invariant: a conversation of another visitor looks like one that does
not exist.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from amends.conversation import Conversation
from amends.feedback import Feedback
from amends.record import Record
from server.auth import bearer
from server.errors import Unauthorized
from server.protocol import PastTurn
from server.routes.callers import Documented, Staff, StateOf, address_of
from server.transcripts import past_turns, rating_of

router = APIRouter(tags=["conversations"])


class Session(Record):
    """A visitor's token; keep it in the browser, send it in `hello` and as Bearer."""

    token: str
    visitor_id: str
    expires_at: float


class SessionRequest(Record):
    """Nothing to say yet."""


class OwnConversation(Record):
    """A conversation as its visitor sees it."""

    conversation_id: str
    opened_at: float
    turns: tuple[PastTurn, ...]
    rating: int | None


class StaffConversation(Record):
    """A conversation with everything that is known about it."""

    conversation: Conversation
    feedback: tuple[Feedback, ...]


class ConversationPage(Record):
    """Newest first; `next` goes into `before` for the page after."""

    conversations: tuple[Conversation, ...]
    next: str | None


@router.post("/v1/session")
def open_session(request: Request, state: StateOf, body: SessionRequest | None = None) -> Session:
    """A token for a new visitor; with a valid visitor token as Bearer, a fresh one for the same
    visitor.
    """
    limit = state.settings.address_sessions_per_minute
    state.limits.check(("sessions", address_of(request), limit))
    known = bearer(request.headers.get("authorization"))
    try:
        visitor_id = state.auth.visitor(known) if known else None
    except Unauthorized:
        visitor_id = None
    session = state.auth.open_session(visitor_id)
    return Session(
        token=session.token, visitor_id=session.visitor_id, expires_at=session.expires_at
    )


@router.get("/v1/conversations")
def list_conversations(
    state: StateOf,
    staff: Staff,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[str | None, Query(max_length=64)] = None,
) -> ConversationPage:
    """The conversations that spoke last."""
    found = state.conversations.recent(limit, before)
    following = found[-1].conversation_id if len(found) == limit else None
    return ConversationPage(conversations=tuple(found), next=following)


@router.get("/v1/conversations/{conversation_id}")
def read_conversation(
    conversation_id: str, request: Request, state: StateOf, _: Documented = None
) -> StaffConversation | OwnConversation:
    """To the staff with passages, tokens and feedback; to its visitor as the widget shows it."""
    token = bearer(request.headers.get("authorization"))
    if state.auth.is_staff(token):
        conversation = state.conversations.read(conversation_id)
        feedback = state.feedback.of_conversation(conversation_id)
        return StaffConversation(conversation=conversation, feedback=tuple(feedback))
    visitor_id = state.auth.visitor(token)
    conversation = state.conversations.read_for(conversation_id, visitor_id)
    feedback = state.feedback.of_conversation(conversation_id)
    return OwnConversation(
        conversation_id=conversation_id,
        opened_at=conversation.opened_at,
        turns=past_turns(conversation, feedback, visitor_id),
        rating=rating_of(feedback, visitor_id),
    )
