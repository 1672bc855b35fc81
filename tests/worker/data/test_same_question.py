"""worker.data.same_question: one question under other words is one question."""

import json
from pathlib import Path

import pytest

import amends
from worker.data.same_question import question_key

ASKED = "What's the price of express delivery?"


@pytest.mark.parametrize(
    "text",
    [
        "what's the price of express delivery",
        "hey what's the price of express delivery? thx",
        "Good morning, what's the price of express delivery? Thank you!",
        "Tell me honestly: what's the price of express delivery?",
        "Me again. What's the price of express delivery?",
        "I need to know: what's the price of express delivery? I need this today.",
        "Just to be sure, what's the price of express delivery?",
        "So, what's the price of express delivery? :)",
        "Oh, and what\u2019s the price of express delivery?",
        "What's the price of express delivery? Can you help me?",
        "What's the price of express delivery? Could you tell me please?",
        "Can I ask you something? What's the price of express delivery?",
        "Hi there! what's the price of express delivery? Cheers!",
    ],
)
def test_words_around_it_make_no_other_question(text: str) -> None:
    assert question_key(text) == question_key(ASKED) == "whats the price of express delivery"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What's the price of express delivery?", "What's the price of a tent?"),
        ("If I order in another colour, is the old price kept?", "Is the old price kept?"),
        ("Do you ship to Norway?", "Do you ship to Spain?"),
        ("Is it 30 days?", "Is it 60 days?"),
        ("Hello", "Thanks"),
        ("I want to return boots. Can you help me?", "I want to return a tent. Can you help me?"),
        ("Wo ist mein Paket?", "Wo ist mein Geld?"),
    ],
)
def test_other_questions_stay_others(one: str, other: str) -> None:
    assert question_key(one) != question_key(other)


def test_every_question_of_the_example_shop_stays_its_own() -> None:
    lines = Path(amends.__file__).parent / "example_shop" / "questions.jsonl"
    asked = [json.loads(line)["question"] for line in lines.read_text().splitlines()]
    assert len({question_key(question) for question in asked}) == len(asked)


def test_what_holds_no_word_is_empty() -> None:
    assert question_key(" ?! ") == ""
    assert question_key("hello") == "hello"


@pytest.mark.parametrize(
    "text",
    [
        "I want to return boots. Can you help me?",
        "I want to return boots. Can you help me? Thanks, Anna",
        "Hello! I want to return boots. Can you help me? Kind regards, Bob",
        "Can you help me? I want to return boots. My name is Anna.",
    ],
)
def test_who_asks_for_help_asks_what_they_say(text: str) -> None:
    assert question_key(text) == "i want to return boots"


def test_who_only_asks_for_help_asks_that() -> None:
    assert question_key("Hi. Can you help me? Best regards") == "can you help me best regards"
