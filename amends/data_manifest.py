"""What a round learned from, as one value with one hash: lineage from an adapter back to every
judgement.

Knows no store and no examples; worker/data/manifest.py makes it. Schema 2, of earlier rounds, names
neither sides, customers nor weights: they are read as unknown. Invariant: equal examples give an
equal hash, on any machine, in any order of the input.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from amends.record import Record

FeedbackKind = Literal["correction", "ranking", "thumb", "rating"]
KINDS: tuple[FeedbackKind, ...] = ("correction", "ranking", "thumb", "rating")
Place = Literal["train", "hold-out", "unknown side"]
LEFT_OUT = "left out: "  # how the reason of what an exclusion covers begins
_NAMED = 10  # as many experts and notes are named in words


@dataclass(frozen=True)
class Dropped:
    """A judgement that no example is made from, and why."""

    feedback_id: str
    reason: str


@dataclass(frozen=True)
class Sizes:
    """How many examples of each kind one side holds."""

    pairs: int
    trusted_pairs: int
    thumbs: int
    ratings: int
    corrections: int
    prompts: int

    def __str__(self) -> str:
        return (
            f"{self.corrections} corrections, {self.pairs} pairs, {self.thumbs} thumbs, "
            f"{self.ratings} ratings, {self.prompts} prompts"
        )


class DataManifest(Record):
    """Ids, sizes, what was dropped and why; texts only as a hash."""

    schema_version: Literal[2, 3] = 3
    # feedback ids that became an example, sorted
    thumbs: tuple[str, ...]
    ratings: tuple[str, ...]
    corrections: tuple[str, ...]
    rankings: tuple[str, ...]
    held_out: tuple[str, ...] | None = Field(
        None, description="those of them that judge and are not trained on; None: unknown"
    )
    weights: dict[str, float] = Field({}, description="of each of them; 1: an expert's judgement")
    turn_ids: tuple[str, ...] = Field(
        description="turns whose texts are in an example or a prompt, sorted"
    )
    customers: tuple[str, ...] | None = Field(
        None, description="whose turns those are, sorted; None: unknown"
    )
    train: Sizes
    holdout: Sizes
    dropped: tuple[Dropped, ...]
    without: tuple[str, ...] = Field((), description="whom the round left out, in words")
    notes: tuple[str, ...] = Field(description="brigades that were found, caps that were applied")
    largest_visitor_share: float = Field(description="of the weight of the batch")
    expert_shares: dict[str, float] = Field(description="the same of each expert, by name")
    content_hash: str = Field(description="SHA-256 of every example with its texts and weight")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def used(self, kind: FeedbackKind) -> tuple[str, ...]:
        """Ids of the judgements of one kind that became an example."""
        return {
            "thumb": self.thumbs,
            "rating": self.ratings,
            "correction": self.corrections,
            "ranking": self.rankings,
        }[kind]

    def all_used(self) -> Iterator[str]:
        for kind in KINDS:
            yield from self.used(kind)

    @cached_property
    def places(self) -> dict[str, Place]:
        """The side of every judgement that was used."""
        if self.held_out is None:
            return dict.fromkeys(self.all_used(), "unknown side")
        held_out = frozenset(self.held_out)
        return {one: "hold-out" if one in held_out else "train" for one in self.all_used()}

    def why_dropped(self, feedback_id: str) -> str | None:
        """Every reason that is noted about a judgement."""
        reasons = [item.reason for item in self.dropped if item.feedback_id == feedback_id]
        return "; ".join(reasons) or None

    def dropped_by_reason(self) -> dict[str, int]:
        """How many judgements each reason set aside."""
        return dict(sorted(Counter(item.reason for item in self.dropped).items()))

    def weight_by_rater(self) -> dict[str, float]:
        """What each rater's judgements weigh in examples together, the heaviest first; empty where
        unknown.
        """
        total: dict[str, float] = {}
        for feedback_id, weight in self.weights.items():
            rater = rater_of(feedback_id)
            total[rater] = total.get(rater, 0.0) + weight
        return dict(sorted(total.items(), key=lambda entry: (-entry[1], entry[0])))

    def in_words(self) -> list[str]:
        """For the operator, a line each: sizes, who weighs what, what is not used, the notes."""
        lines = [f"train: {self.train}", f"hold-out: {self.holdout}"]
        shares = [f"{name} {share:.1%}" for name, share in self.expert_shares.items()]
        shares = [*shares[:_NAMED], f"the largest visitor {self.largest_visitor_share:.1%}"]
        lines.append(f"weight: {', '.join(shares)}")
        if self.without:
            lines.append(f"without: {', '.join(self.without)}")
        counts = [f"{count} {reason}" for reason, count in self.dropped_by_reason().items()]
        if counts:
            lines.append(f"not used: {'; '.join(counts)}")
        lines += self.notes[:_NAMED]
        if len(self.notes) > _NAMED:
            lines.append(f"{len(self.notes) - _NAMED} more notes are in data_manifest.json")
        return lines


def kind_of(feedback_id: str) -> str:
    """Of an id as feedback.py makes it: {kind}:{target}:{rater}."""
    return feedback_id.partition(":")[0]


def rater_of(feedback_id: str) -> str:
    """Who gave it: what follows the second colon."""
    return feedback_id.split(":", 2)[-1]


def count_by_kind(feedback_ids: Iterable[str]) -> dict[str, int]:
    """Kinds that occur, in the order of KINDS."""
    kinds = [kind_of(feedback_id) for feedback_id in feedback_ids]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def canonical_json(value: Any) -> str:
    """One spelling per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
