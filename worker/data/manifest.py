"""What a round learned from, as one value with one hash: lineage from an adapter back to every
judgement.

Knows no store. Invariant: equal examples give an equal hash, on any machine, in any order of the
input.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.data.examples import Examples
from worker.data.quarantine import QUARANTINED, Dropped

_NAMED = 10  # as many experts and notes are named in words


@dataclass(frozen=True)
class Sizes:
    """How many examples of each kind one side holds."""

    pairs: int
    trusted_pairs: int
    thumbs: int
    ratings: int
    corrections: int
    prompts: int

    @classmethod
    def of(cls, examples: Examples) -> "Sizes":
        return cls(
            pairs=len(examples.pairs),
            trusted_pairs=examples.trusted_pairs,
            thumbs=len(examples.thumbs),
            ratings=len(examples.ratings),
            corrections=len(examples.corrections),
            prompts=len(examples.prompts),
        )

    def __str__(self) -> str:
        return (
            f"{self.corrections} corrections, {self.pairs} pairs, {self.thumbs} thumbs, "
            f"{self.ratings} ratings, {self.prompts} prompts"
        )


@dataclass(frozen=True)
class DataManifest:
    """Ids, sizes, what was dropped and why; texts only as a hash."""

    schema_version: int
    thumbs: tuple[str, ...]  # feedback ids that became an example, sorted; so the three below
    ratings: tuple[str, ...]
    corrections: tuple[str, ...]
    rankings: tuple[str, ...]
    turn_ids: tuple[str, ...]  # turns whose texts are in an example or a prompt, sorted
    train: Sizes
    holdout: Sizes
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]  # brigades that were found, caps that were applied
    largest_visitor_share: float  # of the weight of the batch
    expert_shares: dict[str, float]  # the same of each expert, by name
    content_hash: str  # SHA-256 of every example with its texts and weight

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return canonical_json(dataclasses.asdict(self))

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def quarantined_used(self) -> int:
        """How many judgements of a burst or brigade are in an example: 0, or something is wrong."""
        used = {*self.thumbs, *self.ratings, *self.corrections, *self.rankings}
        return sum(d.feedback_id in used for d in self.dropped if d.reason in QUARANTINED)

    def dropped_by_reason(self) -> dict[str, int]:
        """How many judgements each reason set aside."""
        reasons = [item.reason for item in self.dropped]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def in_words(self) -> list[str]:
        """For the operator, a line each: sizes, who weighs what, what is not used, the notes."""
        lines = [f"train: {self.train}", f"hold-out: {self.holdout}"]
        shares = [f"{name} {share:.1%}" for name, share in self.expert_shares.items()]
        shares = [*shares[:_NAMED], f"the largest visitor {self.largest_visitor_share:.1%}"]
        lines.append(f"weight: {', '.join(shares)}")
        counts = [f"{count} {reason}" for reason, count in self.dropped_by_reason().items()]
        if counts:
            lines.append(f"not used: {'; '.join(counts)}")
        lines += self.notes[:_NAMED]
        if len(self.notes) > _NAMED:
            lines.append(f"{len(self.notes) - _NAMED} more notes are in data_manifest.json")
        return lines


def make_manifest(
    train: Examples,
    holdout: Examples,
    *,
    dropped: tuple[Dropped, ...],
    notes: tuple[str, ...],
    largest_visitor_share: float,
    expert_shares: Mapping[str, float],
) -> DataManifest:
    """The manifest of one split data set."""
    sides = (train, holdout)
    ids: dict[str, set[str]] = {
        "thumb": set(),
        "rating": set(),
        "correction": set(),
        "ranking": set(),
    }
    turns: set[str] = set()
    for side in sides:
        for example in (*side.pairs, *side.thumbs, *side.ratings, *side.corrections):
            ids[example.feedback_id.partition(":")[0]].add(example.feedback_id)
        turns.update(answer.context.turn_id for answer in side.answers())
        turns.update(example.answer.context.turn_id for example in side.corrections)
        turns.update(prompt.context.turn_id for prompt in side.prompts)
    return DataManifest(
        schema_version=2,
        thumbs=tuple(sorted(ids["thumb"])),
        ratings=tuple(sorted(ids["rating"])),
        corrections=tuple(sorted(ids["correction"])),
        rankings=tuple(sorted(ids["ranking"])),
        turn_ids=tuple(sorted(turns - {""})),
        train=Sizes.of(train),
        holdout=Sizes.of(holdout),
        dropped=tuple(sorted(dropped, key=lambda item: (item.feedback_id, item.reason))),
        notes=notes,
        largest_visitor_share=largest_visitor_share,
        expert_shares=dict(expert_shares),
        content_hash=_content_hash(train, holdout),
    )


def canonical_json(value: Any) -> str:
    """One spelling per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _content_hash(train: Examples, holdout: Examples) -> str:
    digest = hashlib.sha256()
    for name, side in (("train", train), ("holdout", holdout)):
        groups = (side.pairs, side.thumbs, side.ratings, side.corrections, side.prompts)
        rows = [canonical_json([name, _plain(item)]) for group in groups for item in group]
        for row in sorted(rows):
            digest.update(row.encode() + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Dataclasses and records as JSON values, with the type's name."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value
