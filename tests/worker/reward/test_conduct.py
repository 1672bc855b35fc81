"""worker.reward.conduct: what an answer should not do is recognised, and what is near it is not."""

import pytest

from worker.reward.conduct import (
    asks_back,
    deflects,
    flatters,
    hands_off,
    invented_contact,
    invented_numbers,
    promises,
    repetition,
)

PASSAGES = (
    "You can return shoes within 30 days. Returns are free in our 3 stores.",
    "Gift cards cannot be refunded. They are valid for two years.",
)


def test_numbers_are_compared_as_numbers() -> None:
    assert invented_numbers("", PASSAGES, "within 30.0 days, 2 years, three stores") == 0.0
    assert invented_numbers("", PASSAGES, "30 days or 1,000 days") == 0.5
    assert invented_numbers("I bought 4 pairs", PASSAGES, "Your 4 pairs") == 0.0


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
    "response",
    [
        "Please contact our support team at 0113 496 0000.",
        "A colleague will get back to you.",
        "One of our experts will be in touch with you shortly.",
        "I will forward this to a person.",
        "I'll pass your question on to our staff.",
        "Your message is important. We will get back to you within 2 days.",
        "Please ask a member of staff.",
        "Just phone our support.",
        "We'll be in touch.",
        "You can reach our team on 0113 496 0000.",
        "A colleague will help you with that.",
        "Our team will be happy to help you with that.",
        "I have forwarded your question to our team.",
        "A specialist will get back to you.",
        "Someone will get in touch with you.",
        "Our sales department will get back to you.",
        "I'll have a colleague call you.",
        "Please contact our helpline.",
        "Please contact customer services.",
        "Give us a call.",
        "No, please ask our team.",
        "I cannot say, please contact our team.",
        "You should speak to one of our advisors.",
        "Returns take 30 days; call us for the rest.",
    ],
)
def test_a_visitor_is_handed_off_with_a_number_or_without(response: str) -> None:
    assert hands_off(PASSAGES, response)


@pytest.mark.parametrize(
    "response",
    [
        "",
        "Yes, within 30 days.",
        "Our team packs every parcel by hand.",
        "You can hand it to the driver.",
        "Pass it through the gate.",
        "A person can bring four pairs.",
        "The refund is passed to your card.",
        "We also offer phone support, and an e-mail support team.",
        "I can answer that: it takes three days.",
        "You do not need to call us first.",
        "No, you need not contact us before returning.",
        "We will call you when your order is ready for collection.",
        "You can email us the receipt.",
        "Ask us to gift wrap it at checkout.",
        "Yes, you can pass your card to someone else.",
        "Hand your old boots to a member of staff in any shop.",
        "It is a key ring for a person.",
        "Anyone on our staff will tell you that returns are free.",
    ],
)
def test_who_answers_hands_nobody_off(response: str) -> None:
    assert not hands_off(PASSAGES, response)


def test_what_the_shop_itself_sends_to_its_people_is_an_answer() -> None:
    passages = (
        "For a late parcel, call our customer service on 0113 496 0200. Parcels take 3 days.",
    )
    assert not hands_off(passages, passages[0])
    assert not hands_off(
        passages, "Please call our customer service on 0113 496 0200 for a late parcel."
    )
    assert hands_off(passages, "Please ask our staff how long the journey takes.")
    hours = (
        "Our team answers emails within 1 day and the telephone from 9 am to 5 pm on weekdays.",
    )
    assert not hands_off(hours, "You can call our team from 9 am to 5 pm on weekdays.")
    assert not hands_off(hours, "You can call us from 9 am to 5 pm.")
    assert hands_off(hours, "Please call our team about your parcel.")


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
