"""worker.reward.overlap: each entry on answers whose value is plain to see."""

import math

import pytest

from worker.reward.overlap import OVERLAP_FEATURES, overlap_features

PASSAGES = (
    "You can return shoes within 30 days. Returns are free in our 3 stores.",
    "Gift cards cannot be refunded. They are valid for two years.",
)


def features(
    response: str, question: str = "Can I return my shoes?", ended: bool = True
) -> dict[str, float]:
    values = overlap_features(question, PASSAGES, response, ended)
    return dict(zip(OVERLAP_FEATURES, values, strict=True))


def test_the_passage_itself_scores_full_marks() -> None:
    found = features("You can return shoes within 30 days.")
    for name in (
        "precision",
        "recall_best",
        "f1_best",
        "f1_asked",
        "bigram_best",
        "numbers_recall",
    ):
        assert found[name] == 1.0, name
    assert found["length_gap"] == 0.0 and found["invented_numbers"] == 0.0


def test_a_grounded_answer_beats_a_deflection_an_invention_and_an_echo() -> None:
    good = features("Yes, shoes can be returned within 30 days. Anything else I can do for you?")
    bad = [
        features("As a customer service agent I am not equipped to answer."),
        features("You may bring them back for 90 months by paying $45."),
        features("Can you return my shoes?"),
    ]
    assert good["f1_asked"] > 0.9 and good["precision"] == 1.0
    assert all(good["f1_asked"] > other["f1_asked"] for other in bad[:2])
    assert bad[0]["deflects"] == 1.0 and bad[1]["invented_numbers"] == 1.0
    assert bad[2]["asks_back"] == 1.0 and good["asks_back"] == 0.0


@pytest.mark.parametrize(
    ("question", "response", "expected"),
    [
        ("Can I return my shoes?", "Yes, you can.", 1.0),
        ("Can I return my shoes?", "No, shoes are final.", -1.0),
        ("Hi, are gift cards refunded?", "No, gift cards are not.", 1.0),
        ("Hi, are gift cards refunded?", "Sure, gift cards are refunded.", -1.0),
        ("How long can I wait with a return?", "No.", 0.0),
    ],
)
def test_yes_and_no_agree_or_contradict(question: str, response: str, expected: float) -> None:
    assert features(response, question)["polarity"] == expected


def test_every_entry_is_finite_for_odd_inputs() -> None:
    for question, passages, response in (
        ("", (), ""),
        ("?", ("",), "\n"),
        ("hm", ("!!",), "…" * 50),
    ):
        values = overlap_features(question, passages, response, False)
        assert len(values) == len(OVERLAP_FEATURES) and all(math.isfinite(v) for v in values)
    assert features("")["empty"] == 1.0 and features("Yes", ended=False)["ended"] == 0.0


def test_the_asked_sentence_is_told_from_its_neighbour() -> None:
    asked = features("They are valid for two years.", "For how many years is a card valid?")
    other = features("Gift cards cannot be refunded.", "For how many years is a card valid?")
    assert asked["f1_best"] == other["f1_best"] == 1.0  # both are the passage's own words
    assert asked["f1_asked"] == 1.0 > other["f1_asked"]
    assert asked["asked_share"] == 1.0 > other["asked_share"]
    assert asked["asked_margin"] > 0 > other["asked_margin"]


def test_a_question_that_shares_no_word_with_the_passages_asks_for_no_sentence() -> None:
    found = features("They are valid for two years.", "Hm?")
    assert found["asked_share"] == found["asked_margin"] == 0.0


def test_the_best_sentences_numbers_have_to_be_there() -> None:
    assert features("You can return shoes within a month.")["numbers_recall"] == 0.0


def test_an_opening_yes_or_no_is_held_against_what_follows() -> None:
    assert features("Yes, you can return shoes within 30 days.")["opening_agrees"] == 1.0
    assert features("No, you can return shoes within 30 days.")["opening_agrees"] == -1.0
    assert features("You can return shoes within 30 days.")["opening_agrees"] == 0.0
    when = "How many days do I have for shoes?"
    assert features("No, you can return shoes within 30 days.", when)["opening_misplaced"] == 1.0
    assert features("You can return shoes within 30 days.", when)["opening_misplaced"] == 0.0
    assert features("No, you can return shoes.")["opening_misplaced"] == 0.0
