"""The invented shop and the simulated people fit together, and the splits do not overlap."""

import json
from collections import Counter

import pytest

from simulator.questions import SHOP, load_passages, load_personas, load_questions
from simulator.wording import contains, words

PASSAGES = load_passages()
TRAIN, HELDOUT = load_questions("train"), load_questions("heldout")
EVERY = TRAIN + HELDOUT
OWN = [json.loads(row) for row in (SHOP / "questions.jsonl").read_text().splitlines()]


def plain(question: str) -> tuple[str, ...]:
    return words(question)


def test_there_is_enough_of_everything() -> None:
    assert len(list((SHOP / "documents").glob("*.md"))) >= 14
    assert len(PASSAGES) >= 60
    assert len(OWN) >= 110
    assert sum(row["must_pass"] for row in OWN) >= 24
    assert len(EVERY) >= 180
    assert len(HELDOUT) >= 64
    assert len(load_personas()) >= 12


def test_passages_are_short_enough_for_small_prompts() -> None:
    for passage_id, text in PASSAGES.items():
        assert 25 <= len(text.split()) <= 50, passage_id


def test_no_wording_occurs_twice_anywhere() -> None:
    asked = [plain(q.question) for q in EVERY] + [plain(row["question"]) for row in OWN]
    assert [wording for wording, count in Counter(asked).items() if count > 1] == []


def test_ids_are_unique() -> None:
    ids = [q.id for q in EVERY] + [row["id"] for row in OWN]
    assert len(ids) == len(set(ids))


def test_the_shops_own_questions_carry_no_gold() -> None:
    for row in OWN:
        assert set(row) == {"id", "question", "must_pass", "intent"}


def test_both_splits_cover_every_passage() -> None:
    assert {q.passage_id for q in TRAIN} == set(PASSAGES)
    assert {q.passage_id for q in HELDOUT} == set(PASSAGES)


@pytest.mark.parametrize("question", EVERY, ids=lambda q: q.id)
def test_every_fact_stands_in_its_passage_and_in_the_experts_answer(question) -> None:  # type: ignore[no-untyped-def]
    passage, answer = words(PASSAGES[question.passage_id]), words(question.expert_answer)
    for group in question.facts:
        assert any(contains(passage, way) for way in group), group
        assert any(contains(answer, way) for way in group), group


def test_no_fact_is_given_away_by_its_question() -> None:
    for question in EVERY:
        asked = words(question.question)
        for group in question.facts:
            assert not any(contains(asked, way) for way in group), question.id


def test_experts_answer_shortly_and_begin_with_yes_or_no_where_asked() -> None:
    for question in EVERY:
        assert len(question.expert_answer.split()) <= 35
        assert question.expert_answer.endswith(".")
        if question.polarity is not None:
            assert question.expert_answer.lower().startswith(f"{question.polarity}, ")


def test_neither_yes_nor_no_is_always_right() -> None:
    sides = Counter(q.polarity for q in EVERY)
    assert sides["yes"] >= 50
    assert sides["no"] >= 50
