"""worker.reward.clauses: what is affirmed and what is denied in one sentence."""

import pytest

from worker.reward.clauses import clauses, denies


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("We never do. Nor today!", ("we never do.", "nor today!")),
        ("We never do, but you may.", ("we never do", "you may.")),
        ("We never do but gladly; ask: now", ("we never do", "gladly", "ask", "now")),
        (
            "It is late, and I can\u2019t come, so you wait.",
            ("it is late", "i can't come", "you wait."),
        ),
        ("No, you may not.", ("no", "you may not.")),
        ("We open at 17:00, 18:00 and later.", ("we open at 17:00, 18:00 and later.",)),
        ("No caps, scarves, and gloves.", ("no caps, scarves, and gloves.",)),
        ("", ()),
    ],
)
def test_a_sentence_falls_into_what_stands_for_itself(text: str, parts: tuple[str, ...]) -> None:
    assert clauses(text) == parts


@pytest.mark.parametrize(
    ("clause", "no"),
    [
        ("we do not pay it back", True),
        ("unfortunately that is over", True),
        ("no gift if you are late", True),
        ("don't worry, a gift is on its way", False),
        ("no problem at all, here it is", False),
        ("a refund, no questions asked", False),
        ("it is yours without a receipt", False),
        ("if you do not like it, send it back", False),
        ("your money back if it isn't good", False),
        ("yes", False),
    ],
)
def test_what_denies_something(clause: str, no: bool) -> None:
    assert denies(clause) == no
