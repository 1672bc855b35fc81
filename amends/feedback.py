"""Thumb, Rating, Correction, Ranking: judgements, who gave them, and what makes each valid.

Knows no store and no training. Invariant: one rater has one judgement of a kind on a target;
giving it again replaces it, so `feedback_id` is derived from kind, target and rater. `says` is the
judgement itself in words.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from amends.conversation import MAX_MESSAGE_BYTES
from amends.record import Record

LOW_RATING = 2  # of five; this and less is a bad one
Reason = Literal["incorrect", "incomplete", "inappropriate", "outdated", "other"]
Answer = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_MESSAGE_BYTES)
]


Role = Literal["visitor", "expert"]


class Rater(Record):
    """Who judged: a visitor by visitor_id, an expert by the name that they gave."""

    rater_id: str = Field(min_length=1, max_length=128)
    role: Role


class _Feedback(Record):
    schema_version: Literal[1] = 1
    conversation_id: str
    rater: Rater
    given_at: float = Field(description="seconds since the epoch")


class Thumb(_Feedback):
    """±1 on a turn."""

    kind: Literal["thumb"] = "thumb"
    turn_id: str
    value: Literal[1, -1]
    reasons: tuple[Reason, ...] = ()
    comment: str = Field("", max_length=2000)

    @property
    def feedback_id(self) -> str:
        return f"thumb:{self.turn_id}:{self.rater.rater_id}"

    @property
    def says(self) -> str:
        return "thumb up" if self.value > 0 else "thumb down"


class Rating(_Feedback):
    """Satisfaction 1–5 with a conversation."""

    kind: Literal["rating"] = "rating"
    value: int = Field(ge=1, le=5)

    @property
    def feedback_id(self) -> str:
        return f"rating:{self.conversation_id}:{self.rater.rater_id}"

    @property
    def says(self) -> str:
        return f"{self.value} of 5"


class Correction(_Feedback):
    """The answer an expert would have given on a turn."""

    kind: Literal["correction"] = "correction"
    turn_id: str
    response: Answer

    @property
    def feedback_id(self) -> str:
        return f"correction:{self.turn_id}:{self.rater.rater_id}"

    @property
    def says(self) -> str:
        return self.response


class Ranking(_Feedback):
    """An order of alternative responses to one turn's message, best first."""

    kind: Literal["ranking"] = "ranking"
    turn_id: str
    responses: tuple[Answer, ...] = Field(min_length=2, max_length=9)

    @property
    def feedback_id(self) -> str:
        return f"ranking:{self.turn_id}:{self.rater.rater_id}"

    @property
    def says(self) -> str:
        return "\n".join(f"{place}. {text}" for place, text in enumerate(self.responses, 1))


Feedback = Annotated[Thumb | Rating | Correction | Ranking, Field(discriminator="kind")]
FEEDBACK: TypeAdapter[Thumb | Rating | Correction | Ranking] = TypeAdapter(Feedback)
