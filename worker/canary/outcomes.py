"""What came of one conversation: was it judged, was it bad, of each kind.

Pure. Counts visitors' judgements only: experts choose what they look at. Invariant: nothing that
was said or judged after `until` counts, so every conversation has had equally long.
"""

from collections.abc import Iterable, Iterator, Sequence

from amends.canary import Kind, place
from amends.conversation import Conversation, Turn
from amends.exclusion import Exclusion
from amends.feedback import LOW_RATING, Feedback, Rating, Thumb
from amends.record import Record
from worker.canary.comparison import Comparison


class Observation(Record):
    """A conversation of either side, as it is counted from then on.

    candidate: the share gave it to the candidate; answered_by: who wrote its first turn, None
    where nobody did. `bad` has only the kinds of which there is an outcome.
    """

    conversation_id: str
    visitor_id: str
    began_at: float
    share: float
    candidate: bool
    answered_by: int | None
    bad: dict[Kind, bool]


def observe(
    conversation: Conversation,
    feedback: Sequence[Feedback],
    began_at: float,
    settle_s: float,
    tried: Comparison,
) -> Observation:
    """What to count of a conversation whose first message came at `began_at`."""
    until = began_at + settle_s
    turns = [turn for turn in conversation.turns if turn.created_at <= until]
    given = [one for one in feedback if one.rater.role == "visitor" and one.given_at <= until]
    thumbs = [one.value for one in given if isinstance(one, Thumb)]
    ratings = [one.value for one in given if isinstance(one, Rating)]
    bad: dict[Kind, bool] = {"answers": not turns or any(map(_faulty, turns))}
    if thumbs:
        bad["thumbs"] = -1 in thumbs
    if ratings:
        bad["ratings"] = min(ratings) <= LOW_RATING
    share = tried.share_at(began_at)
    return Observation(
        conversation_id=conversation.conversation_id,
        visitor_id=conversation.visitor_id,
        began_at=began_at,
        share=share,
        candidate=place(conversation.conversation_id, tried.version) < share,
        answered_by=turns[0].policy_version if turns else None,
        bad=bad,
    )


def without(
    observed: Iterable[Observation], exclusions: Iterable[Exclusion]
) -> Iterator[Observation]:
    """Not an excluded customer's conversations, and no judgement of an excluded rater's: in a
    conversation none but its visitor judges as a visitor."""
    left_out = {(one.kind, one.name) for one in exclusions}
    for one in observed:
        if ("customer", one.visitor_id) in left_out:
            continue
        if ("rater", one.visitor_id) in left_out:
            one = one.model_copy(update={"bad": {"answers": one.bad["answers"]}})
        yield one


def _faulty(turn: Turn) -> bool:
    return turn.finish_reason != "stop" or not turn.response.strip()
