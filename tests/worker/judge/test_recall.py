"""worker.judge.recall: what an expert said is in an answer, or not."""

import pytest

from worker.judge.recall import holds, is_gone, share_held

ASKED = "How long can I return boots?"
EXPERT = "You can return boots for 30 days, and for 60 days as a member."


@pytest.mark.parametrize(
    ("question", "expert", "response", "share"),
    [
        (ASKED, EXPERT, EXPERT, 1.0),
        (ASKED, EXPERT, "30 days.", 0.5),
        (ASKED, EXPERT, "Thirty days, members sixty.", 1.0),
        (ASKED, EXPERT, "You can return boots for 14 days as a member.", 0.0),
        (ASKED, EXPERT, "", 0.0),
        ("Do you take cheques?", "No, only cards and cash.", "Cards and cash only.", 1.0),
        ("Do you take cheques?", "No, only cards and cash.", "Yes, cards and cash.", 0.0),
        ("Do you take cards?", "Yes.", "No.", 0.0),
        ("Do you take cards?", "Yes.", "We take cards.", 1.0),
        ("Do you take cards?", "Yes.", "We do not take cards.", 0.0),
        ("Do you take cards?", "Yes.", "", 0.0),
        ("May my dog come?", "No, dogs stay outside.", "Yes, you are welcome with a dog!", 0.0),
        ("Can I return it?", "Yes, within 30 days.", "You cannot return it within 30 days.", 0.25),
        ("Can I pump it up?", "No, it fills itself in 5 minutes.", "No, you can't.", 1.0),
        ("Do you take cards?", "Yes, at the till.", "", 0.0),
        ("Do you take cards?", "Yes, at the till.", "We have a pool on the roof.", 0.0),
        ("Do you take cards?", "Yes, at the till.", "Thank you for asking! No.", 0.0),
        ("Do you take cards?", "Yes, at the till or by telephone.", "At the till.", 0.5),
        ("Where do I send it?", "To our depot, within 30 days.", "To our depot.", 0.25),
        ("When are you open?", "At 7, 8, 9, 10 and 11.", "At 7.", 0.25),
        ("When are you open?", "At 7, 8, 9, 10 and 11.", "At 6.", 0.0),
    ],
)
def test_the_share_of_the_experts_facts(
    question: str, expert: str, response: str, share: float
) -> None:
    assert share_held(question, expert, response) == share


def test_whatever_one_expert_said_is_held_and_gone_is_what_none_said() -> None:
    experts = ("It costs 12 pounds.", "It costs 15 pounds.")  # the price was changed
    asked = "What is the price?"
    for price in (12, 15):
        assert holds(asked, experts, f"{price} pounds.")
        assert not is_gone(asked, experts, f"{price} pounds.")
    assert is_gone(asked, experts, "14 pounds.") and not holds(asked, experts, "14 pounds.")
    assert not holds(asked, (), "14 pounds.")


def test_between_held_and_gone_nothing_is_said() -> None:
    asked, experts = "Can I air my blanket?", ("Yes, hang it outside.",)
    assert not is_gone(asked, experts, "Outside it airs.")
    assert is_gone(asked, experts, "No, you cannot.")
