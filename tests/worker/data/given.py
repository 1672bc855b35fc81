"""Judgements as a batch holds them, with as little as matters to trust."""

from amends.feedback import Correction, Rater, Rating, Thumb


def thumb(visitor: str, turn: int = 0, at: float = 0.0, value: int = 1) -> Thumb:
    return Thumb(
        conversation_id=f"c-{visitor}",
        turn_id=f"t-{visitor}-{turn}",
        rater=Rater(rater_id=visitor, role="visitor"),
        given_at=at,
        value=1 if value > 0 else -1,
    )


def rating(visitor: str, value: int, at: float = 0.0) -> Rating:
    return Rating(
        conversation_id=f"c-{visitor}",
        rater=Rater(rater_id=visitor, role="visitor"),
        given_at=at,
        value=value,
    )


def correction(turn: int, expert: str = "ann", at: float = 0.0) -> Correction:
    return Correction(
        conversation_id="c",
        turn_id=f"x{turn}",
        rater=Rater(rater_id=expert, role="expert"),
        given_at=at,
        response="This.",
    )
