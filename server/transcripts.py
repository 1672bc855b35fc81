"""Stored conversations as their visitor may see them.

Pure. Invariant: nothing of prompts, token ids or other raters gets out.
"""

from collections.abc import Sequence

from amends.conversation import Conversation, Turn
from amends.feedback import Feedback, Rating, Thumb
from server.protocol import PastTurn, Source


def past_turns(
    conversation: Conversation, feedback: Sequence[Feedback], visitor_id: str
) -> tuple[PastTurn, ...]:
    """Every turn, with this visitor's thumb."""
    thumbs = {
        given.turn_id: given.value
        for given in feedback
        if isinstance(given, Thumb) and given.rater.rater_id == visitor_id
    }
    return tuple(
        PastTurn(
            turn_id=turn.turn_id,
            message=turn.message,
            response=turn.response,
            policy_version=turn.policy_version,
            origin=turn.origin,
            sources=sources_of(turn),
            thumb=thumbs.get(turn.turn_id),
            finish_reason=turn.finish_reason,
        )
        for turn in conversation.turns
    )


def rating_of(feedback: Sequence[Feedback], visitor_id: str) -> int | None:
    """This visitor's rating of the conversation."""
    for given in feedback:
        if isinstance(given, Rating) and given.rater.rater_id == visitor_id:
            return given.value
    return None


def sources_of(turn: Turn) -> tuple[Source, ...]:
    """The passages that the response used, each section once."""
    unique = dict.fromkeys((passage.title, passage.source) for passage in turn.passages)
    return tuple(Source(title=title, source=source) for title, source in unique)
