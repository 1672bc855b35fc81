"""Train and hold-out: no customer and no question on both sides.

Knows customers and the keys of questions only. A question is on the side of its hash, whatever else
is asked; a customer who asked questions of one side is on it. Of those who asked of both, who asked
most of the held-out ones are held out until the hold-out has its share; what is between a customer
and a question of different sides is on neither. Invariants: equal input gives an equal split, in
any order; what was ever on one side is never on the other, so no later gate asks as new what a
version learned from.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Side = Literal["train", "holdout"]
SIDES: tuple[Side, Side] = ("train", "holdout")
_WORD = re.compile(r"[^\W_]+")


def normalise(text: str) -> str:
    """Words only, lower case, single spaces: what makes two texts the same text."""
    return " ".join(_WORD.findall(text.casefold().replace("'", "").replace("\u2019", "")))


def stable_unit(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on nothing but the two texts."""
    digest = hashlib.sha256(f"{salt}\x1f{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class SplitSettings:
    """How much is held out."""

    holdout_share: float = 0.2
    salt: str = "amends"  # another salt, another split


@dataclass(frozen=True)
class Split:
    """Which side each customer and each question is on."""

    customers: dict[str, Side]
    questions: dict[str, Side]

    def side(self, customer: str, question: str) -> Side | None:
        """The side of a question that a customer asked; None where the two disagree."""
        side = self.customers[customer]
        return side if self.questions[question] == side else None


def split(
    asked: Iterable[tuple[str, str]],
    questions: Iterable[str] = (),
    settings: SplitSettings | None = None,
) -> Split:
    """Split (customer, question) pairs, and questions that no customer asked."""
    settings = settings or SplitSettings()
    edges = Counter(asked)
    result = Split({}, {question: _side(question, settings) for question in questions})
    total: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for (customer, question), times in edges.items():
        side = result.questions.setdefault(question, _side(question, settings))
        total[customer] += times
        held[customer] += times if side == "holdout" else 0
    order = sorted(
        total, key=lambda c: (-held[c] / total[c], stable_unit(c, settings.salt + ":customer"))
    )
    room = settings.holdout_share * edges.total()
    for customer in order:
        only_held = held[customer] == total[customer]
        hold = held[customer] > 0 and (only_held or total[customer] <= room)
        result.customers[customer] = "holdout" if hold else "train"
        room -= total[customer] if hold else 0
    return result


def _side(question: str, settings: SplitSettings) -> Side:
    held = stable_unit(question, settings.salt + ":side") < settings.holdout_share
    return "holdout" if held else "train"
