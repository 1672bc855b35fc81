"""worker.data.redaction: what is replaced, what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.data.redaction import CARD, iban_valid, luhn_valid, personal_data, public_values, redact

PIECES = (
    *("order", "part ", "no. ", " is ", "#", "my ", "phone ", " ", ".", "-", "a@b.co", "a@b."),
    *("1234567890", "0171 5550199", "+49 30 1234567", "4111 1111 1111 1111"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail me at Jo.Doe+x@mail.example.co.uk.", "mail me at [email]."),
        ("card 4111 1111 1111 1111 12/27 please", "card [card] 12/27 please"),
        ("order 12 4111-1111-1111-1111", "order 12 [card]"),
        ("pay 5500000000000004 now", "pay [card] now"),
        ("IBAN DE89 3704 0044 0532 0130 00 thanks", "IBAN [iban] thanks"),
        ("my iban gb82west12345698765432 from the bank", "my iban [iban] from the bank"),
        ("call +49 (0)30 1234 5678 tomorrow", "call [phone] tomorrow"),
        ("call me on 0171 555 0199.", "call me on [phone]."),
        ("(415) 555-0132 is mine", "[phone] is mine"),
        ("it is 555-0132", "it is [phone]"),
        ("ring 4155550132, ok?", "ring [phone], ok?"),
        ("I am anna.smith@müller.de, or josé@correo.es.", "I am [email], or [email]."),
        ("phone:030-1234567", "phone:[phone]"),
        ("Tel:0171 5550199", "Tel:[phone]"),
        ("tel:+49-30-1234567", "tel:[phone]"),
        ("ring 030\u20131234567", "ring [phone]"),
        ("ring 0171\u00a0555\u00a00199", "ring [phone]"),
        ("4111\u00a01111\u00a01111\u00a01111", "[card]"),
        ("4111\u202f1111\u202f1111\u202f1111", "[card]"),
        ("4111  1111  1111  1111", "[card]"),
        ("card\n4111\n1111\r\n1111\n1111\n12/27", "card\n[card]\n12/27"),
        ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "[iban]"),
        ("DE89  3704  0044  0532  0130  00", "[iban]"),
        ("DE89 3704 0044\n0532 0130 00", "[iban]"),
        ("I order by phone 030 1234567", "I order by phone [phone]"),
        ("I want to order, 030 1234567", "I want to order, [phone]"),
        ("about my order.\n030 1234567", "about my order.\n[phone]"),
        ("Order 20481234567, 0171 5550199", "Order 20481234567, [phone]"),
        ("Order 20481234567 0171 5550199", "Order 20481234567 [phone]"),
        ("order +49 30 1234567", "order [phone]"),
        ("border 0301234567", "border [phone]"),
        ("my phone #4155550132", "my phone #[phone]"),
        ("my phone is #07700900123", "my phone is #[phone]"),
        ("my number is #7700900123", "my number is #[phone]"),
        ("call me at #07700 900123", "call me at #[phone]"),
        ("cell: #555-123-4567", "cell: #[phone]"),
        ("call me back about my order 07700 900123", "call me back about my order [phone]"),
        ("my order 07700900123", "my order [phone]"),
    ],
)
def test_personal_data_becomes_a_placeholder(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Order 8812345 of 2024-05-12 at 10:30",
        "We open from 9-17, Monday 08:00 to 18:00.",
        "It costs 1,299.00 or 1.299,00",
        "version 1.20.300.4000",
        "4111 1111 1111 1112",  # wrong check digit
        "My order 20481234567 has not arrived.",
        "Order 20481234567 is on its way.",
        "Order #1234567890",
        "Order # 0123456789",
        "My order is 0123 456 7890",
        "#1234567890, please",
        "order number is 4011234567",
        "Ticket 555-1234 is still open",
        "booking ref 0123456789",
        "Ref: 0123456789",
        "invoice-no. 4011234567",
        "Serial number 0012345678",
        "model 880-4410",
        "SKU 0400-123-4567",
        "part no. 123 456 7890",
        "Order\u00a0no.:\u00a04011234567",
        "open 10:30-1234567",
        "from 100\u20132000 g",
        "sizes\n36\n37\n38\n39\n40\n41\n42\n43\n44\n45\n46",
        "up to 30 days, 2 to 5 items, size 85x60x60cm",
        "no data here",
        "",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert redact(text) == text


def test_what_the_shop_publishes_is_not_personal() -> None:
    public = ["Call us on 0800 555 0100 or write to help@shop.example."]
    text = "Write to Help@shop.example or call +44 800 555 0100, I am jo@mail.example"
    assert redact(text, public_values(public)) == text.replace("jo@mail.example", "[email]")


def test_personal_data_lists_the_pieces() -> None:
    assert personal_data("a@b.example and (415) 555-0132") == ("a@b.example", "(415) 555-0132")


def test_check_digits_agree_with_published_examples() -> None:
    assert luhn_valid("79927398713") and not luhn_valid("79927398710")
    assert iban_valid("GB82WEST12345698765432") and iban_valid("NO9386011117947")
    assert not iban_valid("GB82WEST1234569876543") and not iban_valid("XX82WEST12345698765432")


@given(
    st.text(alphabet="0123456789 +-()./abDE@[]:ü\u00a0\u2013\n", max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.timeout(60)  # it was hours
def test_a_message_full_of_numbers_is_read_in_time() -> None:
    assert CARD in redact("4111 1111 1111 1111 " + "7 8 " * 4000)
