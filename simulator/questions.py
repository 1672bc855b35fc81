"""What the simulated people know: questions with hidden gold facts, personas, and the shop's
public passages.

Knows no wire and no scoring. Invariant: what is read here never travels to the programs, except a
question's own wording (as a visitor's message) and an expert's answer (as a correction).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DATA = Path(__file__).parent / "data"
SHOP = Path(__file__).parent.parent / "amends" / "example_shop"


class GoldQuestion(BaseModel):
    """A question, and what a right answer states: of each group of `facts` any phrasing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    question: str
    passage_id: str
    facts: tuple[tuple[str, ...], ...] = Field(min_length=1)
    polarity: Literal["yes", "no"] | None
    expert_answer: str
    split: Literal["train", "heldout"]


class Persona(BaseModel):
    """A kind of customer: how they word things, and how they judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    patience: float = Field(
        ge=0,
        le=1,
        description="chance of asking again after a bad answer, and of a second question",
    )
    harshness: float = Field(ge=-2, le=2, description="subtracted from what they feel, in stars")
    openings: tuple[str, ...] = Field(description="what may stand before the question")
    closings: tuple[str, ...] = Field(description="what may stand after the question")
    lower_case: bool
    thumb_rate: float = Field(ge=0, le=1, description="share of turns that get a thumb")
    rating_rate: float = Field(ge=0, le=1, description="share of conversations that get a rating")


def _rows(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def load_questions(split: Literal["train", "heldout"]) -> tuple[GoldQuestion, ...]:
    """The gold questions of one split, in file order."""
    every = (GoldQuestion.model_validate_json(row) for row in _rows(DATA / "questions.jsonl"))
    return tuple(question for question in every if question.split == split)


def load_personas() -> tuple[Persona, ...]:
    return tuple(Persona.model_validate_json(row) for row in _rows(DATA / "personas.jsonl"))


def load_passages(shop: Path = SHOP) -> Mapping[str, str]:
    """passage_id ("<file>#<section>") -> text, as anybody may read it on the shop's help pages."""
    passages: dict[str, str] = {}
    for path in sorted((shop / "documents").glob("*.md")):
        for section in re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))[1:]:
            heading, _, text = section.partition("\n")
            slug = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
            passages[f"{path.stem}#{slug}"] = " ".join(text.split())
    return passages


def load_shop_questions(shop: Path = SHOP) -> tuple[str, ...]:
    """The wording of the shop's own questions, which carry no gold facts."""
    return tuple(json.loads(row)["question"] for row in _rows(shop / "questions.jsonl"))
