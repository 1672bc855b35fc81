"""Train and hold-out: no customer and no question on both sides.

Knows customers and the keys of questions only. Customers who share a question are connected; a
connected component goes to one side as a whole, by a stable hash, so that new data seldom moves old
data. Where everyone asks the same questions the components grow together into one; a component
larger than `max_component_share` is cut instead: questions by their hash, then the customers who
asked most of the held-out questions, and what crosses the cut is on neither side. Invariant: equal
input gives an equal split, in any order of the input.
"""

import hashlib
import re
from collections import Counter, defaultdict
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
    max_component_share: float = 0.2  # of all questions asked; a larger component is cut
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
    nodes = {("q", question) for question in questions}
    parent = {node: node for node in nodes}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for customer, question in edges:
        parent[find(("c", customer))] = find(("q", question))
    components: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for node in list(parent):
        components[find(node)].append(node)
    inside: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for (customer, question), times in edges.items():
        inside[find(("q", question))][customer, question] = times
    result = Split({}, {})
    limit = settings.max_component_share * edges.total()
    for root, members in components.items():
        if inside[root].total() <= limit:
            _assign(result, members, _speaker_side(members, settings))
        elif min(len({c for c, _ in inside[root]}), len({q for _, q in inside[root]})) > 1:
            _cut(result, inside[root], settings)
        else:  # one customer, or one question of everyone: cannot be cut, too large to hold out
            _assign(result, members, "train")
    return result


def _side(question: str, settings: SplitSettings) -> Side:
    held = stable_unit(question, settings.salt + ":side") < settings.holdout_share
    return "holdout" if held else "train"


def _speaker_side(members: Iterable[tuple[str, str]], settings: SplitSettings) -> Side:
    """The side of the question with the smallest hash: few newcomers displace it as the component
    grows.
    """
    asked = sorted(name for kind, name in members if kind == "q")
    return _side(min(asked, key=lambda q: stable_unit(q, settings.salt)), settings)


def _assign(result: Split, members: Iterable[tuple[str, str]], side: Side) -> None:
    for kind, name in members:
        (result.questions if kind == "q" else result.customers)[name] = side


def _cut(result: Split, edges: Counter[tuple[str, str]], settings: SplitSettings) -> None:
    asked: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for (customer, question), times in edges.items():
        result.questions[question] = _side(question, settings)
        asked[customer] += times
        held[customer] += times if result.questions[question] == "holdout" else 0
    order = sorted(
        asked, key=lambda c: (-held[c] / asked[c], stable_unit(c, settings.salt + ":customer"))
    )
    taken = 0
    for customer in order:
        room = settings.holdout_share * edges.total() - taken
        hold = held[customer] > 0 and asked[customer] <= room
        result.customers[customer] = "holdout" if hold else "train"
        taken += asked[customer] if hold else 0
