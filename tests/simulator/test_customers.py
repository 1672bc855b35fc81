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
    Visit,
    heldout_crowd,
    rating_value,
    thumb_value,
    training_crowd,
    visit,
    visit_all,
    wording,
)
from simulator.experts import correct, turns_to_correct
from simulator.questions import load_passages, load_personas, load_questions
from tests.server.running_server import STAFF_TOKEN, RunningServer
from tests.server.scripted_engine import ScriptedEngine

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


def test_held_out_customers_ask_about_all_questions_equally_often_and_judge_nothing() -> None:
    few = heldout_crowd(64, 1, PERSONAS, HELDOUT)
    assert len({customer.questions[0].id for customer in few}) == 64
    asked = [c.questions[0].id for c in heldout_crowd(2 * len(HELDOUT), 1, PERSONAS, HELDOUT)]
    assert sorted(asked) == sorted([question.id for question in HELDOUT] * 2)
    assert not any(customer.rates for customer in few)
    with pytest.raises(ValueError, match="got none"):
        heldout_crowd(1, 1, PERSONAS, ())


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


def test_visits_reach_the_server_with_their_judgements(
    server: RunningServer, engine: ScriptedEngine
) -> None:
    crowd = training_crowd(6, 1, PERSONAS, TRAIN)
    engine.answer = lambda version: "Returns cost 4 dollars per parcel."

    async def run() -> tuple[list[Visit], dict[str, dict[str, int]]]:
        async with Api(f"http://127.0.0.1:{server.port}", STAFF_TOKEN) as api:
            visits = await visit_all(api, crowd, load_passages(), 3, lambda _: None)
            bad = turns_to_correct([t for v in visits for t in v.turns], 1.0, 2, seed=1)
            await correct(api, bad, lambda _: None)
            return visits, await api.feedback_counts()

    visits, counts = asyncio.run(run())
    assert [v.customer for v in visits] == list(crowd)
    assert [len(v.turns) for v in visits] == [len(c.questions) for c in crowd]
    assert counts["thumb"]["pending"] == sum(len(v.thumbs) for v in visits) > 0
    assert counts["rating"]["pending"] == sum(v.rating is not None for v in visits) > 0
    assert counts["correction"]["pending"] == 2


def test_nothing_of_the_gold_travels_with_a_question(
    server: RunningServer, engine: ScriptedEngine
) -> None:
    question = next(q for q in HELDOUT if q.passage_id == "delivery#express-delivery")
    customer = Customer(0, PLAIN, "honest", (question,), "s", rates=False)

    async def run() -> Visit:
        async with Api(f"http://127.0.0.1:{server.port}", STAFF_TOKEN) as api:
            return await visit(api, customer, load_passages())

    turn = asyncio.run(run()).turns[0]
    stored = server.state.conversations.turn(turn.answer.turn_id)
    assert stored.message.lower() == question.question.lower()
    assert stored.response == turn.answer.text
    assert turn.satisfaction == 1.0
