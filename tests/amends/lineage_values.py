"""Versions and data manifests with as little as matters to lineage."""

from amends.adapter_manifest import Manifest
from amends.correction_outcomes import CorrectionOutcomes
from amends.data_manifest import DataManifest, Dropped, Sizes, kind_of
from amends.lineage import Version
from amends.verdict import Verdict

NOTHING = Sizes(pairs=0, trusted_pairs=0, thumbs=0, ratings=0, corrections=0, prompts=0)


def data_manifest(
    *used: str,
    held_out: tuple[str, ...] = (),
    customers: tuple[str, ...] = (),
    dropped: tuple[tuple[str, str], ...] = (),
    without: tuple[str, ...] = (),
) -> DataManifest:
    """`used` and `held_out` are feedback ids of any kind; ann and bob are experts."""
    every = sorted({*used, *held_out})
    return DataManifest(
        thumbs=tuple(name for name in every if kind_of(name) == "thumb"),
        ratings=tuple(name for name in every if kind_of(name) == "rating"),
        corrections=tuple(name for name in every if kind_of(name) == "correction"),
        rankings=tuple(name for name in every if kind_of(name) == "ranking"),
        held_out=held_out,
        weights={name: 1.0 if name.endswith((":ann", ":bob")) else 0.5 for name in every},
        turn_ids=(),
        customers=customers,
        train=NOTHING,
        holdout=NOTHING,
        dropped=tuple(Dropped(*row) for row in dropped),
        without=without,
        notes=(),
        largest_visitor_share=0.0,
        expert_shares={"ann": 0.5, "bob": 0.5},
        content_hash="0",
    )


def version(
    number: int,
    parent: int,
    data: DataManifest | None,
    outcomes: CorrectionOutcomes | None = None,
    **metrics: float,
) -> Version:
    manifest = Manifest(
        version=number,
        parent=parent,
        base_hash="base",
        line=1,
        run_id=number,
        data_manifest_hash="" if data is None else data.hash,
        metrics=metrics,
        verdict=Verdict(passed=True),
        files={},
        created_at=float(number),
    )
    return Version(manifest, data, outcomes)
