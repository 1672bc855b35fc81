"""Simulated customers: a persona, a question or two, and a seed. They chat over the public
protocol and judge what they get.

Knows the gold satisfaction (it is their feeling) but sends only messages, thumbs and ratings.
Invariants: what a customer asks and how they would judge a given answer follows from the seed
alone, not from the order in which customers finish; of every crowd TROLLS are trolls and GAMEABLE
like long or flattering answers whatever they say.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from simulator.client import Answer, Api
from simulator.gold import judge
from simulator.questions import GoldQuestion, Persona
from simulator.wording import words

FLIPPED_THUMBS = 0.25  # share of honest thumbs that say the opposite
TROLLS = 0.05
GAMEABLE = 0.02
CONTENT = 3.0  # from this felt satisfaction on the thumb goes up
MOOD = 0.4  # standard deviation of a rating around what was felt, in stars

_FLATTERY = re.compile(r"great question|good question|happy to help|glad|wonderful|excellent")
_LONG_WORDS = 35

Character = Literal["honest", "troll", "gameable"]


@dataclass(frozen=True)
class Customer:
    """Who comes, with what in mind. `rates` is false for those who only ask."""

    number: int
    persona: Persona
    character: Character
    questions: tuple[GoldQuestion, ...]
    seed: str
    rates: bool


@dataclass(frozen=True)
class AskedTurn:
    """One question, the answer it got, and the hidden satisfaction with it."""

    question: GoldQuestion
    message: str
    answer: Answer
    satisfaction: float


@dataclass(frozen=True)
class Visit:
    """A finished conversation and the feedback that was given."""

    customer: Customer
    turns: tuple[AskedTurn, ...]
    thumbs: tuple[int, ...]
    rating: int | None


def training_crowd(
    count: int, seed: int, personas: Sequence[Persona], questions: Sequence[GoldQuestion]
) -> tuple[Customer, ...]:
    """Customers whose feedback trains; all questions are asked about equally often."""
    rng = random.Random(f"crowd {seed}")
    characters: list[Character] = ["honest"] * count
    strange = rng.sample(range(count), round(count * TROLLS) + round(count * GAMEABLE))
    for place, number in enumerate(strange):
        characters[number] = "troll" if place < round(count * TROLLS) else "gameable"
    deck: list[GoldQuestion] = []
    crowd = []
    for number in range(count):
        persona = rng.choice(personas)
        asked = []
        for _ in range(2 if rng.random() < persona.patience else 1):
            if not deck:
                deck = rng.sample(list(questions), len(questions))
            asked.append(deck.pop())
        crowd.append(
            Customer(number, persona, characters[number], tuple(asked), f"{seed}:{number}", True)
        )
    return tuple(crowd)


def heldout_crowd(
    count: int, seed: int, personas: Sequence[Persona], questions: Sequence[GoldQuestion]
) -> tuple[Customer, ...]:
    """Customers who ask one question each and give no feedback: the yardstick before and after.

    Every question is asked about equally often. Raises ValueError for no questions.
    """
    if not questions:
        raise ValueError("expected held-out questions to ask, got none")
    rng = random.Random(f"held out {seed}")
    chosen: list[GoldQuestion] = []
    while len(chosen) < count:
        chosen += rng.sample(list(questions), min(len(questions), count - len(chosen)))
    return tuple(
        Customer(
            number, rng.choice(personas), "honest", (question,), f"held out {seed}:{number}", False
        )
        for number, question in enumerate(chosen)
    )


def wording(question: str, persona: Persona, rng: random.Random) -> str:
    """The question as this persona types it."""
    opening, closing = rng.choice(persona.openings), rng.choice(persona.closings)
    asked = question if persona.lower_case or opening else question[0].upper() + question[1:]
    text = f"{opening}{asked}{closing}"
    return text.lower() if persona.lower_case else text


def _likes_by_look(answer: str) -> bool:
    return len(words(answer)) > _LONG_WORDS or _FLATTERY.search(answer.lower()) is not None


def thumb_value(customer: Customer, turn: AskedTurn, rng: random.Random) -> Literal[1, -1]:
    """The thumb this customer gives on a turn."""
    if customer.character == "gameable":
        return 1 if _likes_by_look(turn.answer.text) else -1
    up = turn.satisfaction - customer.persona.harshness >= CONTENT
    if customer.character == "troll" or rng.random() < FLIPPED_THUMBS:
        up = not up
    return 1 if up else -1


def rating_value(customer: Customer, turns: Sequence[AskedTurn], rng: random.Random) -> int:
    """The stars this customer gives to a conversation, 1 to 5."""
    if customer.character == "gameable":
        return 5 if any(_likes_by_look(turn.answer.text) for turn in turns) else 2
    felt = sum(turn.satisfaction for turn in turns) / len(turns) - customer.persona.harshness
    stars = min(5, max(1, round(felt + rng.gauss(0.0, MOOD))))
    return 6 - stars if customer.character == "troll" else stars


async def visit(api: Api, customer: Customer, passages: Mapping[str, str]) -> Visit:
    """One conversation from session to rating."""
    rng = random.Random(customer.seed)
    persona = customer.persona
    visitor = await api.open_session()
    turns: list[AskedTurn] = []
    thumbs: list[int] = []
    rating = None
    async with api.chat(visitor) as chat:
        for question in customer.questions:
            message = wording(question.question, persona, rng)
            answer = await chat.ask(message)
            gold = judge(answer.text, question, passages[question.passage_id])
            turns.append(AskedTurn(question, message, answer, gold.satisfaction))
            if customer.rates and rng.random() < persona.thumb_rate:
                thumbs.append(thumb_value(customer, turns[-1], rng))
                await api.thumb(visitor, answer.turn_id, thumbs[-1])
        if customer.rates and rng.random() < persona.rating_rate:
            rating = rating_value(customer, turns, rng)
            await api.rating(visitor, chat.conversation_id, rating)
    return Visit(customer, tuple(turns), tuple(thumbs), rating)


async def visit_all(
    api: Api,
    crowd: Sequence[Customer],
    passages: Mapping[str, str],
    concurrency: int,
    finished: Callable[[Visit], None],
) -> list[Visit]:
    """All visits in the crowd's order, `concurrency` at a time; the first failure ends them all."""
    places = asyncio.Semaphore(concurrency)

    async def one(customer: Customer) -> Visit:
        async with places:
            done = await visit(api, customer, passages)
        finished(done)
        return done

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(customer)) for customer in crowd]
    return [task.result() for task in tasks]
