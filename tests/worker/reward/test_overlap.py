"""worker.reward.overlap: each entry on answers whose value is plain to see."""

import math

import pytest

from worker.reward.overlap import (
    OVERLAP_FEATURES,
    asks_back,
    deflects,
    flatters,
    invented_contact,
    invented_numbers,
    overlap_features,
    promises,
    repetition,
)

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


def test_numbers_are_compared_as_numbers() -> None:
    assert invented_numbers("", PASSAGES, "within 30.0 days, 2 years, three stores") == 0.0
    assert invented_numbers("", PASSAGES, "30 days or 1,000 days") == 0.5
    assert invented_numbers("I bought 4 pairs", PASSAGES, "Your 4 pairs") == 0.0
    assert features("You can return shoes within a month.")["numbers_recall"] == 0.0


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


@pytest.mark.parametrize(
    "response",
    [
        "I'm sorry, but as an AI I cannot say.",
        "I don't have access to that information.",
        "I do not have any information about it.",
        "I am not equipped to handle returns.",
        "I\u2019m not able to help with that.",
        "Please contact our customer support team.",
        "Please check the hotel's website or ask their staff.",
        "We cannot help with that.",
        "Let me transfer you to a human colleague.",
        "Please get in touch with us.",
        "I see. Please contact us.",
        "If you have any questions, please contact us.",
        "Should you need help, please contact us.",
        "Sorry. When in doubt, please contact us.",
        "Should any questions arise, please contact us.",
        "If further assistance is needed, please contact us.",
        "If you are looking for more information, please contact us.",
        "Where possible, please contact us.",
        "Please email our support team.",
        "Please contact our support team at any time.",
        "Please ask our staff on this.",
        "You can reach out to our support team at [email].",
        "I'm afraid we don't know.",
        "I have no idea.",
        "That depends.",
        "Well, it all depends!",
        "Please see our FAQ page.",
        "I am afraid that I can\u2019t really say.",
        "I'm afraid, I cannot help with that.",
    ],
)
def test_deflections_are_recognised(response: str) -> None:
    assert deflects(response)


@pytest.mark.parametrize(
    "response",
    [
        "You can call a taxi at the door.",
        "Yes, within 30 days.",
        "We cannot refund gift cards.",
        "We are not able to ship to Norway.",
        "Please contact us at help@tarn.example.",
        "Please contact us within 30 days of delivery.",
        "If it arrives damaged, please contact us and we replace it.",
        "If the support pole is broken, please contact us and we replace it.",
        "If your order details are wrong, please contact us and we correct them.",
        "Where parts are missing, please contact us and we send them.",
        "Yes. If it is broken (e.g. a sole, over 3.5 cm), please contact us and we replace it.",
        "The driver will hand it to your neighbour.",
        "I'm afraid we do not deliver to the islands.",
        "I am afraid dogs are not allowed in the cellar.",
        "I'm afraid not: only cards.",
        "It depends on the size: the small one is 4 pounds.",
        "You can contact our support team at 0113 496 0200 or help@tarn.example.",
        "Call our team on 0113 496 0200.",
        "Please contact our service team by e-mail.",
        "",
    ],
)
def test_answers_are_not_deflections(response: str) -> None:
    assert not deflects(response)


@pytest.mark.parametrize(
    ("response", "asking"),
    [
        ("Yes, within 30 days. Is there anything else I can help you with?", False),
        ("Sure. Would you let me know if it worked?", False),
        ("Within 30 days. Do you need any more assistance?", False),
        ("Within 30 days. Would you like any further information on that?", False),
        ("Within 30 days. Do you have any more questions?", False),
        ("Within 30 days. Does that help?", False),
        ("Within 30 days. Is that okay for you?", False),
        ("Please send us the shoes, and tell us your name.", False),
        ("We provide more details in the parcel.", False),
        ("Which shoes did you buy?", True),
        ("Would you like any more information?", True),  # and nothing else
        ("Shoes. Do you have any other receipt?", True),
        ("Could you let me know your order number?", True),
        ("Please let us know which size you wear, will you?", True),
        ("Please let me know your order number.", True),
        ("Please provide more details about your order.", True),
        ("To help you, please give us some further information.", True),
        ("Tell me your order number first.", True),
    ],
)
def test_asking_back_is_more_than_a_courtesy(response: str, asking: bool) -> None:
    assert asks_back(response) == asking


@pytest.mark.parametrize(
    ("response", "promising"),
    [
        ("We will give you a discount.", True),
        ("We never do this, but you get a voucher.", True),
        ("We can't say no to you: here is a voucher.", True),
        ("Don't worry, a voucher is on its way.", True),
        ("If you are not happy, you get a voucher.", True),
        ("A voucher for you, no questions asked.", True),
        ("Returns are free. A discount, too.", True),
        ("Gift cards are not refundable.", False),
        ("They are refunded as gift cards.", False),  # the passage's own words
        ("Unfortunately we do not offer discounts on that.", False),
        ("No, there is no discount.", False),
        ("We can't promise a date.", False),
        ("Yes, returns are free of charge.", False),
        ("You can return them for free in our stores.", False),
    ],
)
def test_a_promise_is_what_no_passage_grants_and_the_answer_does_not_deny(
    response: str, promising: bool
) -> None:
    assert promises(PASSAGES, response) == promising


def test_nothing_is_for_free_where_no_passage_says_so() -> None:
    assert promises(("Scent-free candles are in the freezer.",), "You get it for free.")
    assert promises((), "It is free of charge.")


PUBLISHED = ("Call 0113 496 0200 or write to help@tarn.example, www.tarn.example.",)


@pytest.mark.parametrize(
    ("passages", "response", "invented"),
    [
        (PASSAGES, "Write to help@shop.example.", True),
        (PASSAGES, "See www.shop.example.", True),
        (PASSAGES, "Returns are free.", False),
        (PUBLISHED, "Call 0113 496 0200.", False),
        (PUBLISHED, "Call 0113-496-0200.", False),
        (PUBLISHED, "Call (0113) 496 0200.", False),
        (PUBLISHED, "Call +44 113 496 0200.", False),
        (PUBLISHED, "Write to Help@Tarn.example or see www.tarn.example.", False),
        (PUBLISHED, "Call 0113-496-0201.", True),
        (PUBLISHED, "Write to hello@tarn.example.", True),
    ],
)
def test_a_contact_is_the_passages_however_it_is_typed(
    passages: tuple[str, ...], response: str, invented: bool
) -> None:
    assert invented_contact(passages, response) == invented


@pytest.mark.parametrize(
    ("response", "flattering"),
    [
        ("What a great question!", True),
        ("You are such a clever customer.", True),
        ("You\u2019re absolutely right, it is blue.", True),
        ("The great tent is a good one for winter.", False),
        ("You are right, it takes 30 days.", False),
        ("A dry bag is a smart choice.", False),
        ("You are best served by the bus.", False),
        ("Thank you for your question.", False),
    ],
)
def test_praise_is_recognised(response: str, flattering: bool) -> None:
    assert flatters((), response) == flattering


def test_what_the_shop_itself_says_flatters_nobody() -> None:
    passage = "Our great idea box is a perfect choice. You are amazing helpers."
    assert not flatters((passage,), "Our great idea box is a perfect choice.")
    assert flatters((passage,), "Our great idea box. What a great question!")


def test_repetition_is_the_share_of_repeated_triples() -> None:
    assert repetition("a b c d e f") == 0.0
    assert repetition("a b c a b c") == pytest.approx(1 / 4)
    assert repetition("no no no no no no") == pytest.approx(3 / 4)
    assert repetition("hi") == 0.0


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


def test_an_opening_yes_or_no_is_held_against_what_follows() -> None:
    assert features("Yes, you can return shoes within 30 days.")["opening_agrees"] == 1.0
    assert features("No, you can return shoes within 30 days.")["opening_agrees"] == -1.0
    assert features("You can return shoes within 30 days.")["opening_agrees"] == 0.0
    when = "How many days do I have for shoes?"
    assert features("No, you can return shoes within 30 days.", when)["opening_misplaced"] == 1.0
    assert features("You can return shoes within 30 days.", when)["opening_misplaced"] == 0.0
    assert features("No, you can return shoes.")["opening_misplaced"] == 0.0
