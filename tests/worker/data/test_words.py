"""worker.data.words: what counts as the same word, number, sentence."""

from worker.data.words import (
    content_words,
    is_yes_no_question,
    numbers,
    polarity,
    sentences,
    stem,
    without_courtesies,
    words,
)


def test_forms_of_a_word_share_a_stem() -> None:
    for family in (
        ("return", "returns", "returned", "returning"),
        ("delivery", "deliveries", "deliver", "delivered"),
        ("available", "availability"),
        ("cancel", "cancelled", "cancellation"),
        ("call", "calls", "called"),
    ):
        assert len({stem(word) for word in family}) == 1, family
    assert stem("shoe") != stem("shop")


def test_stop_words_and_negations_carry_no_content() -> None:
    assert content_words("No, we do not have the blue one") == {"blu", "one"}
    assert words("It\u2019s 5pm") == ("it's", "5pm")


def test_one_number_has_one_spelling() -> None:
    assert numbers("1,000 and 2.50 and 3,5 and 10:00 and seven") == {
        "1000",
        "2.5",
        "3.5",
        "10",
        "7",
    }


def test_courtesies_go_and_answers_stay() -> None:
    text = "Yes, within 30 days. Is there anything else I can help with? Have a nice day!"
    assert without_courtesies(text) == "Yes, within 30 days."
    assert sentences("One. Two?\nThree ... ") == ("One.", "Two?", "Three ...")


def test_yes_no_questions_begin_with_an_auxiliary() -> None:
    assert is_yes_no_question("Hello, do you ship abroad?")
    assert is_yes_no_question("I am in a hurry. Is it open?")
    assert not is_yes_no_question("When do you open?")
    texts = ("No problem", "Yes, not bad", "It is unavailable", "Open", "")
    assert [polarity(text) for text in texts] == [-1, 1, -1, 1, 0]
