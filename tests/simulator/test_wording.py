"""Phrasings of one fact compare equal; facts are found at word boundaries only."""

import pytest

from simulator.wording import contains, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("30-day", "thirty days"),
        ("Twenty-four hours", "24 hour"),
        ("12 dollars", "$12.00"),
        ("1,500 dollars", "$1500"),
        ("10 percent", "10%"),
        ("15 kilograms", "15 kg"),
        ("1 p.m.", "1 PM"),
        ("9:00 am", "9am"),
        ("minus 4 degrees", "-4 degree"),
        ("5 business days", "5 working days"),
        ("can\u2019t", "cannot"),
        ("it's boxes", "it is box"),
    ],
)
def test_phrasings_of_one_fact_are_the_same_words(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("within 15 days of delivery", "15 days", True),
        ("within 150 days of delivery", "15 days", False),
        ("costs 4 dollars", "$4", True),
        ("costs 40 dollars", "$4", False),
        ("does not care", "car", False),
        ("1.9 kg", "9 kg", False),
    ],
)
def test_a_phrase_is_found_at_word_boundaries_only(text: str, phrase: str, found: bool) -> None:
    assert contains(words(text), phrase) is found


def test_a_phrase_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        contains(("a",), "...")


def test_the_numbering_of_a_list_is_no_number() -> None:
    assert words("1. Open My Orders\n2. Print") == ("open", "my", "order", "print")
