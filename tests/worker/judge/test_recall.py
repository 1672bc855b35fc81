"""worker.judge.recall: what an expert said is in an answer, or not."""

import pytest

from worker.judge.recall import forgets, share_held

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
        ("Do you take cards?", "Yes.", "We take cards.", 0.25),
        ("Can I pump it up?", "No, it fills itself in 5 minutes.", "No, you can't.", 1.0),
        ("Where do I send it?", "To our depot, within 30 days.", "To our depot.", 0.25),
    ],
)
def test_the_share_of_the_experts_facts(
    question: str, expert: str, response: str, share: float
) -> None:
    assert share_held(question, expert, response) == share


def test_only_what_was_held_is_forgotten_and_only_when_it_is_gone() -> None:
    assert forgets(ASKED, EXPERT, "30 days.", "14 days.")
    assert not forgets(ASKED, EXPERT, EXPERT, "30 days.")  # shorter, and right
    assert not forgets(ASKED, EXPERT, "14 days.", "15 days.")  # never knew
    asked, expert = "Can I air my blanket?", "Yes, hang it outside."
    assert forgets(asked, expert, "Yes, certainly.", "No, you cannot.")
    assert not forgets(asked, expert, "It is warm.", "No, you cannot.")  # never knew
    assert not forgets(asked, expert, "Yes, hang it outside.", "It is warm.")  # who knows
