"""Judgements in: thumbs and ratings of visitors, corrections of the staff; and how many there are.

Plain functions, because the stores block. Invariants: 2xx means fsynced; a visitor judges only what
was said to them, anything else is 404; sending a judgement again changes nothing.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import Field

from amends.conversation import Turn
from amends.errors import NotFound
from amends.feedback import Answer, Correction, Feedback, Rater, Rating, Reason, Thumb
from amends.record import Record, now_s
from server.routes.callers import IdempotencyKey, Staff, StateOf, Visitor
from server.state import State

router = APIRouter(tags=["feedback"])


class ThumbRequest(Record):
    value: Literal[1, -1]
    reasons: tuple[Reason, ...] = Field((), max_length=5)
    comment: str = Field("", max_length=2000)


class RatingRequest(Record):
    value: int = Field(ge=1, le=5)


class CorrectionRequest(Record):
    response: Answer = Field(description="the answer that should have been given")


class Recorded(Record):
    """The judgement is on disk."""

    feedback_id: str
    status: Literal["created", "replaced", "unchanged"]


class KindCounts(Record):
    """How much of one kind waits for training, is in a round, was learned from."""

    pending: int
    claimed: int
    completed: int


@router.put("/v1/turns/{turn_id}/thumb")
def put_thumb(
    turn_id: str,
    state: StateOf,
    visitor_id: Visitor,
    body: Annotated[
        ThumbRequest,
        Body(examples=[{"value": -1, "reasons": ["outdated"], "comment": "It is 30 days now."}]),
    ],
    idempotency_key: IdempotencyKey = None,
) -> Recorded:
    """The visitor's thumb on a turn of their own; a later one replaces it."""
    _limit(state, visitor_id)
    turn = _own_turn(state, turn_id, visitor_id)
    thumb = Thumb(
        conversation_id=turn.conversation_id,
        turn_id=turn_id,
        rater=Rater(rater_id=visitor_id, role="visitor"),
        given_at=now_s(),
        value=body.value,
        reasons=tuple(dict.fromkeys(body.reasons)),
        comment=body.comment,
    )
    recorded = _record(state, thumb, idempotency_key)
    # A rule's answer says nothing about the version that was active.
    if recorded.status != "unchanged" and turn.origin == "policy":
        state.thumbs.add((turn.policy_version, body.value))
    return recorded


@router.put("/v1/conversations/{conversation_id}/rating")
def put_rating(
    conversation_id: str,
    state: StateOf,
    visitor_id: Visitor,
    body: Annotated[RatingRequest, Body(examples=[{"value": 5}])],
    idempotency_key: IdempotencyKey = None,
) -> Recorded:
    """How satisfied the visitor is with their conversation, 1 to 5; a later one replaces it."""
    _limit(state, visitor_id)
    state.conversations.read_for(conversation_id, visitor_id)
    rating = Rating(
        conversation_id=conversation_id,
        rater=Rater(rater_id=visitor_id, role="visitor"),
        given_at=now_s(),
        value=body.value,
    )
    return _record(state, rating, idempotency_key)


@router.post("/v1/turns/{turn_id}/corrections", status_code=201)
def post_correction(
    turn_id: str,
    state: StateOf,
    staff: Staff,
    body: Annotated[
        CorrectionRequest,
        Body(examples=[{"response": "You have 30 days from the delivery to send it back."}]),
    ],
    idempotency_key: IdempotencyKey = None,
) -> Recorded:
    """The answer that an expert would have given; a later one replaces it."""
    return correct(state, turn_id, staff, body.response, idempotency_key)


@router.get("/v1/feedback/counts")
def feedback_counts(state: StateOf, staff: Staff) -> dict[str, KindCounts]:
    """Per kind of feedback."""
    counts = state.feedback.counts()
    return {kind: KindCounts.model_validate(of_kind) for kind, of_kind in counts.items()}


def correct(
    state: State, turn_id: str, expert: str, response: str, idempotency_key: str | None = None
) -> Recorded:
    """Stores an expert's correction. Raises NotFound."""
    turn = state.conversations.turn(turn_id)
    correction = Correction(
        conversation_id=turn.conversation_id,
        turn_id=turn_id,
        rater=Rater(rater_id=expert, role="expert"),
        given_at=now_s(),
        response=response,
    )
    return _record(state, correction, idempotency_key)


def _limit(state: State, visitor_id: str) -> None:
    # Every change of mind is kept as a revision: one visitor must not fill the store with them.
    limit = state.settings.visitor_judgements_per_minute
    state.limits.check(("judgements", visitor_id, limit))


def _own_turn(state: State, turn_id: str, visitor_id: str) -> Turn:
    try:
        turn = state.conversations.turn(turn_id)
        state.conversations.read_for(turn.conversation_id, visitor_id)
    except NotFound:
        raise NotFound(f"no turn {turn_id!r}") from None  # the same words for both
    return turn


def _record(state: State, feedback: Feedback, idempotency_key: str | None) -> Recorded:
    status = state.feedback.add(feedback, idempotency_key)
    return Recorded(feedback_id=feedback.feedback_id, status=status)
