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
        "What is the price of express delivery?",
        "Hello team - whats the price of express delivery?",
        "Just a quick question - what's the price of express delivery?",
        "Hi, sorry to bother you, what's the price of express delivery?",
        "A question: what's the price of express delivery?",
        "Could you please tell me what's the price of express delivery?",
        "Hello, do you know what's the price of express delivery?",
        "What's the price of express delivery, thank you very much",
        "What's the price of express delivery, can you tell me?",
    ],
)
def test_words_around_it_make_no_other_question(text: str) -> None:
    assert question_key(text) == question_key(ASKED) == "what is the price of express delivery"


@pytest.mark.parametrize("question", ["How do I return boots?", "What does delivery cost?"])
@pytest.mark.parametrize(
    "closing",
    [
        "Am I right?",
        "Any ideas?",
        "Are you there?",
        "Can I ask you something?",
        "Can anybody help?",
        "Can you confirm?",
        "Can you look into it?",
        "Can you please check?",
        "Could you advise?",
        "Could you get back to me?",
        "Could you let me know?",
        "Does that make sense?",
        "Hello?",
        "I'm in a hurry, can you help me?",
        "Is that ok?",
        "Is that possible?",
        "Is this correct?",
        "It's urgent, can someone answer?",
        "Or not?",
        "What do you think?",
        "Who can help me?",
    ],
)
def test_asking_for_an_answer_is_no_question_of_its_own(question: str, closing: str) -> None:
    assert question_key(f"{question} {closing}") == question_key(question)


@pytest.mark.parametrize(
    ("indirect", "direct"),
    [
        ("Hi there! Could you please tell me when you open?", "When do you open?"),
        ("I'd like to know when you open", "When do you open?"),
        ("Could you tell me when do you open?", "When do you open?"),
        ("Can you tell me if you ship to Ireland?", "Do you ship to Ireland?"),
        ("I was wondering if there is parking.", "Is there parking?"),
        ("Do you know how long I can keep it?", "How long can I keep it?"),
        ("Tell me how much it is", "How much is it?"),
    ],
)
def test_who_asks_to_be_told_asks_that(indirect: str, direct: str) -> None:
    assert question_key(indirect) == question_key(direct)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What's the price of express delivery?", "What's the price of a tent?"),
        ("If I order in another colour, is the old price kept?", "Is the old price kept?"),
        ("Do you ship to Norway?", "Do you ship to Spain?"),
        ("Is it 30 days?", "Is it 60 days?"),
        ("Hello", "Thanks"),
        ("I want to return boots. Can you help me?", "I want to return a tent. Can you help me?"),
        ("I want to return boots, can you help me?", "I lost my card, can you help me?"),
        ("My boots leak, can you help me?", "My tent leaks, can you help me?"),
        ("Lost my card, help", "Lost my boots, help"),
        ("For express delivery, how long is it?", "For standard delivery, how long is it?"),
        ("In December, are you open on Sundays?", "In July, are you open on Sundays?"),
        ("With a dog, can I book a room?", "With a child, can I book a room?"),
        ("The red one, is it waterproof?", "The blue one, is it waterproof?"),
        ("If I cancel, do I pay?", "When I come late, do I pay?"),
        ("Is it good?", "Is it one?"),
        ("Do you open in the morning?", "Do you open in the evening?"),
        ("Do you sell one?", "Do you sell?"),
        ("Wo ist mein Paket?", "Wo ist mein Geld?"),
        ("Вы открыты в 9?", "Можно вернуть через 9 дней?"),
        ("Вы открыты 9 мая? Можно вернуть?", "Вы открыты 9 мая? Есть отель?"),
        ("Größe 42?", "Gräße 42?"),
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
