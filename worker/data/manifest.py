"""The data manifest of one split data set, made from its examples.

Knows no store. Invariant: equal examples give an equal hash, on any machine, in any order of the
input.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from amends.data_manifest import DataManifest, Dropped, Sizes, canonical_json, kind_of
from worker.data.examples import Examples
from worker.data.quarantine import QUARANTINED


def make_manifest(
    train: Examples,
    holdout: Examples,
    *,
    dropped: tuple[Dropped, ...],
    notes: tuple[str, ...],
    largest_visitor_share: float,
    expert_shares: Mapping[str, float],
    weights: Mapping[str, float],
    without: tuple[str, ...] = (),
) -> DataManifest:
    """`weights` by feedback id, of at least what is in an example."""
    sides = (train, holdout)
    ids: dict[str, set[str]] = {
        "thumb": set(),
        "rating": set(),
        "correction": set(),
        "ranking": set(),
    }
    turns: set[str] = set()
    customers: set[str] = set()
    for side in sides:
        for example in side.judged():
            ids[kind_of(example.feedback_id)].add(example.feedback_id)
            customers.add(example.customer)
        customers.update(prompt.customer for prompt in side.prompts if not prompt.fill_up)
        turns.update(answer.context.turn_id for answer in side.answers())
        turns.update(example.answer.context.turn_id for example in side.corrections)
        turns.update(prompt.context.turn_id for prompt in side.prompts)
    return DataManifest(
        thumbs=tuple(sorted(ids["thumb"])),
        ratings=tuple(sorted(ids["rating"])),
        corrections=tuple(sorted(ids["correction"])),
        rankings=tuple(sorted(ids["ranking"])),
        held_out=tuple(sorted({example.feedback_id for example in holdout.judged()})),
        weights={name: weights[name] for name in sorted(set[str]().union(*ids.values()))},
        turn_ids=tuple(sorted(turns - {""})),
        customers=tuple(sorted(customers)),
        train=_sizes(train),
        holdout=_sizes(holdout),
        dropped=tuple(sorted(dropped, key=lambda item: (item.feedback_id, item.reason))),
        without=without,
        notes=notes,
        largest_visitor_share=largest_visitor_share,
        expert_shares=dict(expert_shares),
        content_hash=_content_hash(train, holdout),
    )


def quarantined_used(manifest: DataManifest) -> int:
    """How many judgements of a burst or brigade are in an example: 0, or something is wrong."""
    used = set(manifest.all_used())
    return sum(d.feedback_id in used for d in manifest.dropped if d.reason in QUARANTINED)


def _sizes(examples: Examples) -> Sizes:
    return Sizes(
        pairs=len(examples.pairs),
        trusted_pairs=examples.trusted_pairs,
        thumbs=len(examples.thumbs),
        ratings=len(examples.ratings),
        corrections=len(examples.corrections),
        prompts=len(examples.prompts),
    )


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
