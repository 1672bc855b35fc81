"""What the hidden satisfaction says of answers of known kinds, so that a point on its scale means
something.

Knows the gold function and the shop's documents, no running install.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from amends.knowledge import Knowledge
from simulator.gold import judge
from simulator.questions import GoldQuestion

DEFLECTION = "I'm sorry, I am not able to help with that. Please contact our customer service team."
INVENTION = "It takes 97 days and costs 431 dollars, see www.example-offers.com for all of it."


def answers_of_known_kinds(
    questions: Sequence[GoldQuestion], passages: Mapping[str, str]
) -> dict[str, float]:
    """Mean satisfaction with the expert's answer, with sending away, with an invention, and with
    the expert's answer to another question."""
    others = [*questions[1:], questions[0]]
    kinds = {
        "expert": [question.expert_answer for question in questions],
        "deflecting": [DEFLECTION] * len(questions),
        "inventing": [INVENTION] * len(questions),
        "wrong": [other.expert_answer for other in others],
    }
    return {
        kind: float(
            np.mean(
                [
                    judge(answer, question, passages[question.passage_id]).satisfaction
                    for answer, question in zip(answers, questions, strict=True)
                ]
            )
        )
        for kind, answers in kinds.items()
    }


def told_by_experts(
    questions: Sequence[GoldQuestion],
    training: Sequence[GoldQuestion],
    passages: Mapping[str, str],
) -> frozenset[str]:
    """Ids of the questions all of whose facts an expert's answer to one in `training` about the
    same passage states: who has learned that answer may only have to repeat it."""

    def states(answer: str, question: GoldQuestion) -> bool:
        found = judge(answer, question, passages[question.passage_id])
        return found.facts_met == found.facts_asked

    return frozenset(
        question.id
        for question in questions
        for other in training
        if other.passage_id == question.passage_id and states(other.expert_answer, question)
    )


def quoted(
    questions: Sequence[GoldQuestion], passages: Mapping[str, str], knowledge: Knowledge, most: int
) -> float:
    """Mean satisfaction with the passages found for each question, quoted whole, whatever was
    asked: what a policy reaches that only copies."""
    said = [
        (
            " ".join(passage.text for passage in knowledge.retrieve(question.question, most)),
            question,
        )
        for question in questions
    ]
    return float(np.mean([judge(text, q, passages[q.passage_id]).satisfaction for text, q in said]))
