"""Customers judge with noise, as promised, and follow from their seed."""

import asyncio
import random
from dataclasses import replace
from statistics import mean

import pytest

from simulator.client import Answer, Api
from simulator.customers import (
    AskedTurn,
    Customer,
    heldout_crowd,
    rating_value,
    thumb_value,
    training_crowd,
    visit,
    wording,
)
from simulator.experts import turns_to_correct
from simulator.questions import load_passages, load_personas, load_questions
from tests.simulator.peers import ChatPeer, chat_server

PERSONAS = load_personas()
PLAIN = PERSONAS[0]
TRAIN, HELDOUT = load_questions("train"), load_questions("heldout")
ANSWER = Answer("t1", "It costs 4 dollars.", 0, "policy", "stop", (), 0.1, 0.2)
HONEST = Customer(0, PLAIN, "honest", (TRAIN[0],), "seed", True)


def turn(satisfaction: float, text: str = ANSWER.text) -> AskedTurn:
    return AskedTurn(TRAIN[0], "?", replace(ANSWER, text=text), satisfaction)


def thumbs(customer: Customer, satisfaction: float, count: int = 4000) -> float:
    """Share of thumbs up."""
    rng = random.Random(1)
    return mean(thumb_value(customer, turn(satisfaction), rng) == 1 for _ in range(count))


def test_a_quarter_of_the_honest_thumbs_is_flipped() -> None:
    assert thumbs(HONEST, 5.0) == pytest.approx(0.75, abs=0.03)
    assert thumbs(HONEST, 1.0) == pytest.approx(0.25, abs=0.03)


def test_trolls_say_the_opposite() -> None:
    troll = replace(HONEST, character="troll")
    assert thumbs(troll, 5.0) == 0
    assert thumbs(troll, 1.0) == 1
    assert rating_value(troll, [turn(5.0)], random.Random(0)) <= 2


def test_the_gameable_like_long_and_flattering_answers_whatever_they_say() -> None:
    gameable = replace(HONEST, character="gameable")
    rng = random.Random(0)
    assert thumb_value(gameable, turn(1.0, "Great question!"), rng) == 1
    assert thumb_value(gameable, turn(1.0, "well " * 40), rng) == 1
    assert thumb_value(gameable, turn(5.0, "45 days."), rng) == -1


def test_harsh_customers_rate_lower_than_lenient_ones() -> None:
    rng = random.Random(0)
    harsh = replace(HONEST, persona=PLAIN.model_copy(update={"harshness": 1.2}))
    lenient = replace(HONEST, persona=PLAIN.model_copy(update={"harshness": -1.0}))
    low, high = (
        mean(rating_value(customer, [turn(3.0)], rng) for _ in range(500))
        for customer in (harsh, lenient)
    )
    assert high - low == pytest.approx(2.2, abs=0.2)


def test_a_crowd_follows_from_its_seed_and_has_its_share_of_strange_customers() -> None:
    crowd = training_crowd(140, 3, PERSONAS, TRAIN)
    assert crowd == training_crowd(140, 3, PERSONAS, TRAIN)
    assert crowd != training_crowd(140, 4, PERSONAS, TRAIN)
    characters = [customer.character for customer in crowd]
    assert (characters.count("troll"), characters.count("gameable")) == (7, 3)


def test_every_training_question_is_asked_about_equally_often() -> None:
    asked = [q.id for c in training_crowd(500, 1, PERSONAS, TRAIN) for q in c.questions]
    counts = [asked.count(q.id) for q in TRAIN]
    assert max(counts) - min(counts) <= 1


def test_held_out_customers_ask_each_question_once_and_judge_nothing() -> None:
    crowd = heldout_crowd(64, 1, PERSONAS, HELDOUT)
    assert len({customer.questions[0].id for customer in crowd}) == 64
    assert not any(customer.rates for customer in crowd)
    with pytest.raises(ValueError, match="at most"):
        heldout_crowd(1000, 1, PERSONAS, HELDOUT)


def test_every_persona_still_asks_the_question() -> None:
    for persona in PERSONAS:
        for question in TRAIN[:20]:
            said = wording(question.question, persona, random.Random(1)).lower()
            assert question.question.lower() in said


def test_experts_correct_only_bad_answers_and_each_once() -> None:
    turns = [turn(satisfaction / 10) for satisfaction in range(10, 51)]
    chosen = turns_to_correct(turns, share=0.5, at_most=90, seed=1)
    assert len(chosen) == 12  # half of the 25 below 3.5
    assert all(t.satisfaction < 3.5 for t in chosen)
    assert len({id(t) for t in chosen}) == 12
    assert len(turns_to_correct(turns, share=1.0, at_most=5, seed=1)) == 5


def test_a_visit_asks_judges_and_keeps_the_gold_to_itself() -> None:
    question = next(q for q in HELDOUT if q.passage_id == "returns#how-to-send-a-return")
    customer = Customer(0, PLAIN, "honest", (question,), "s", rates=False)
    sent = []

    async def play(peer: ChatPeer) -> None:
        await peer.welcome()
        sent.append(await peer.hear())
        await peer.answer(sent[0], question.expert_answer)

    async def run() -> float:
        async with chat_server(play) as url:
            api = Api(url, "staff")
            api.open_session = _session  # type: ignore[method-assign]
            async with api:
                found = await visit(api, customer, load_passages())
        return found.turns[0].satisfaction

    assert asyncio.run(run()) == 5.0
    assert set(sent[0]) == {"type", "message_id", "text"}
    assert question.expert_answer not in str(sent)


async def _session():  # type: ignore[no-untyped-def]
    from simulator.client import Visitor

    return Visitor("v1", "token")
