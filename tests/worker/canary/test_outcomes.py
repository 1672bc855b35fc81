from typing import Any

import pytest

from amends.canary import place
from amends.conversation import Conversation, Turn
from amends.exclusion import Exclusion
from amends.feedback import Feedback, Rater, Rating, Thumb
from worker.canary.comparison import Comparison
from worker.canary.outcomes import Observation, observe, without

TRIED = Comparison(7, 0, began=3, seen=3, shares=((1000.0, 0.05), (2000.0, 0.5)))
VISITOR, EXPERT = Rater(rater_id="v", role="visitor"), Rater(rater_id="e", role="expert")


def turn(at: float = 1010.0, **changes: Any) -> Turn:
    values: dict[str, Any] = {
        "turn_id": f"t{at}",
        "conversation_id": "c",
        "message": "how long?",
        "response": "30 days.",
        "policy_version": 7,
        "origin": "policy",
        "created_at": at,
    }
    return Turn(**(values | changes))


def thumb(value: Any, at: float = 1020.0, rater: Rater = VISITOR) -> Thumb:
    return Thumb(conversation_id="c", rater=rater, given_at=at, turn_id="t1010.0", value=value)


def rating(value: int, at: float = 1020.0) -> Rating:
    return Rating(conversation_id="c", rater=VISITOR, given_at=at, value=value)


def seen(*given: Feedback, turns: tuple[Turn, ...] = (turn(),), began: float = 1005) -> Observation:
    said = Conversation(conversation_id="c", visitor_id="v", opened_at=1.0, turns=turns)
    return observe(said, given, began, 100.0, TRIED)


def test_an_answer_that_nobody_judged_says_only_that_it_came() -> None:
    assert seen().bad == {"answers": False}


@pytest.mark.parametrize(
    ("given", "bad"),
    [
        ((thumb(1),), {"thumbs": False}),
        ((thumb(1), thumb(-1)), {"thumbs": True}),
        ((rating(2),), {"ratings": True}),
        ((rating(3), thumb(-1)), {"ratings": False, "thumbs": True}),
        ((thumb(-1, rater=EXPERT),), {}),
        ((thumb(-1, at=1106.0), rating(1, at=1106.0)), {}),
    ],
)
def test_visitors_judgements_count_until_the_conversation_has_settled(
    given: tuple[Feedback, ...], bad: dict[str, bool]
) -> None:
    assert seen(*given).bad == {"answers": False, **bad}


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (turn(1106.0),),  # too late
        (turn(response=" "),),
        (turn(), turn(1011.0, finish_reason="length")),
        (turn(finish_reason="cancelled"),),
    ],
)
def test_an_answer_that_is_missing_empty_cut_off_or_stopped_is_bad(turns: tuple[Turn, ...]) -> None:
    assert seen(turns=turns).bad["answers"]


def test_whose_it_is_depends_on_the_share_of_its_beginning_not_on_who_answered() -> None:
    where = place("c", 7)
    assert 0.05 < where < 0.5  # what the rest of this test needs
    early, late = seen(began=1500.0), seen(began=2500.0)

    assert (early.candidate, early.share, early.answered_by) == (False, 0.05, 7)
    assert (late.candidate, late.share) == (True, 0.5)
    assert seen(began=900.0).share == 0.0


def test_excluded_people_decide_no_trial() -> None:
    observed = [
        seen(thumb(-1), rating(1)).model_copy(update={"visitor_id": name})
        for name in ("customer", "rater", "else")
    ]
    exclusions = [
        Exclusion(kind=kind, name=name, by="eve", reason="a troll", at=2000.0)
        for kind, name in (("customer", "customer"), ("rater", "rater"), ("rater", "customer"))
    ]
    left = list(without(observed, exclusions))

    assert [one.visitor_id for one in left] == ["rater", "else"]
    assert (left[0].bad, left[1]) == ({"answers": False}, observed[2])
    assert list(without(observed, ())) == observed
