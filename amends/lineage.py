"""What follows from the data manifests of all versions: who learned from whom, where training
begins when somebody is left out, what changed between two versions.

Knows no store, no file and no table. A version whose data nobody can name counts as one that
learned from everybody. Invariant: pure; equal versions give equal answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amends.adapter_audit import AuditRow, candidate_after
from amends.adapter_manifest import Manifest
from amends.correction_outcomes import CorrectionOutcomes
from amends.data_manifest import LEFT_OUT, DataManifest, count_by_kind, kind_of, rater_of
from amends.exclusion import Exclusion

NOT_LEARNED = "not learned from"  # of what was to train: supervised steps use corrections only


@dataclass(frozen=True)
class Version:
    """One version with what its round left; `data` None: gone, or another run's."""

    manifest: Manifest
    data: DataManifest | None
    outcomes: CorrectionOutcomes | None = None

    @property
    def supervised_only(self) -> bool:
        """Whether its round was judged and fitted no reward model: only corrections reached the
        weights.
        """
        metrics = self.manifest.metrics
        return "gate/kl" in metrics and "gate/reward_gain" not in metrics

    def learned(self, feedback_id: str) -> bool:
        """Whether its own round's weights, or its reward model's, were fitted to a judgement."""
        if self.data is None or self.data.places.get(feedback_id) in (None, "hold-out"):
            return False
        imitated = self.data.why_dropped(feedback_id) is None
        return not self.supervised_only or (kind_of(feedback_id) == "correction" and imitated)


Versions = Mapping[int, Version]


def ancestry(version: int, versions: Versions) -> tuple[int, ...]:
    """The version, its parent and so on to the base model. One whose manifest is gone counts as
    trained from the base model.
    """
    found = [version]
    while found[-1]:
        known = versions.get(found[-1])
        found.append(known.manifest.parent if known is not None else 0)
    return tuple(found)


def used_from(data: DataManifest | None, exclusions: Sequence[Exclusion]) -> bool:
    """Whether a round used, on either side, what the exclusions cover: the hold-out is not trained
    on, but it chose the judge that let the version pass.
    """
    if data is None:
        return bool(exclusions)
    raters = {item.name for item in exclusions if item.kind == "rater"}
    if not raters.isdisjoint(map(rater_of, data.all_used())):
        return True
    customers = {item.name for item in exclusions if item.kind == "customer"}
    return bool(customers) and (data.customers is None or not customers.isdisjoint(data.customers))


def clean_parent(
    champion: int, versions: Versions, exclusions: Sequence[Exclusion]
) -> tuple[int, tuple[int, ...]]:
    """What to train from, and the champion's ancestors, itself included, that are not built upon,
    oldest first: the earliest that used what is left out, and all that were trained from it.
    """
    line = ancestry(champion, versions)[::-1]
    for place, number in enumerate(line):
        if number == 0:
            continue
        known = versions.get(number)
        if used_from(known.data if known is not None else None, exclusions):
            return line[place - 1], line[place:]
    return champion, ()


def fate(version: Version, feedback_id: str) -> str | None:
    """What a round did with a judgement, in words; None when it did not see it."""
    if version.data is None:
        return None
    place = version.data.places.get(feedback_id)
    if place is not None:
        noted = version.data.why_dropped(feedback_id)
        said = "held out: judged with" if place == "hold-out" else "learned from"
        if place != "hold-out" and not version.learned(feedback_id):
            said = "in the batch: supervised steps learn from corrections only"
        said += " (side unknown)" if place == "unknown side" else ""
        return f"{said}; {noted}" if noted else said
    reason = version.data.why_dropped(feedback_id)
    return None if reason is None else f"set aside: {reason}"


def carriers(feedback_id: str, versions: Versions) -> tuple[int, ...]:
    """Versions whose weights learned from a judgement: in their own round or an ancestor's."""
    learned = {number for number, version in versions.items() if version.learned(feedback_id)}
    return tuple(v for v in versions if not learned.isdisjoint(ancestry(v, versions)))


def champions(rows: Iterable[AuditRow]) -> frozenset[int]:
    """Every version that ever was one."""
    return frozenset(row.champion for row in rows)


def alias_moves(version: int, rows: Sequence[AuditRow]) -> tuple[AuditRow, ...]:
    """Moves of this version, and those that ended its time as champion or candidate; `rows` oldest
    first."""
    found = []
    champion: int | None = None
    candidate: int | None = None
    for row in rows:
        after = candidate_after(candidate, row)
        replaced = champion == version != row.champion or candidate == version != after
        if row.version == version or replaced:
            found.append(row)
        champion, candidate = row.champion, after
    return tuple(found)


@dataclass(frozen=True)
class Change:
    """What a version that leaves somebody out has otherwise than the champion it was judged beside.

    `figures`: name -> (before, after). Under answers/ both sat the same examination, the new
    version's; the others are as each one's own gate measured them, None where it did not.
    """

    before: int
    parent: int  # what it was trained from
    not_built_upon: tuple[int, ...]  # of the champion and its ancestors
    customers: tuple[int | None, int | None]  # whose turns were used, before and now
    left_out: dict[str, int]  # by kind, what the new round left out
    gone: dict[str, int]  # used before, not now, whatever the reason
    new: dict[str, int]  # used now, not before
    figures: dict[str, tuple[float | None, float | None]]
    corrections_lost: tuple[str, ...]  # that the champion answers well and this version does not
    corrections_left_out: tuple[str, ...]  # used before, left out now


def change(
    before: Version, after: Version, line_before: Sequence[int], line_after: Sequence[int]
) -> Change:
    """Both need their data. The lines are their ancestries, each with itself."""
    if before.data is None or after.data is None:
        raise ValueError("expected two versions whose data are known")
    old, now = set(before.data.all_used()), set(after.data.all_used())
    left_out = {d.feedback_id for d in after.data.dropped if d.reason.startswith(LEFT_OUT)}
    lost = after.outcomes.ids("lost") if after.outcomes is not None else ()
    return Change(
        before=before.manifest.version,
        parent=after.manifest.parent,
        not_built_upon=tuple(number for number in line_before if number not in line_after),
        customers=(_count(before.data.customers), _count(after.data.customers)),
        left_out=count_by_kind(left_out),
        gone=count_by_kind(old - now),
        new=count_by_kind(now - old),
        figures=_figures(before.manifest.metrics, after.manifest.metrics),
        corrections_lost=lost,
        corrections_left_out=tuple(sorted(left_out & set(before.data.corrections))),
    )


def _count(names: Sequence[str] | None) -> int | None:
    return None if names is None else len(names)


def _figures(
    theirs: Mapping[str, float], ours: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    champion, candidate = "gate/champion/", "gate/candidate/"
    found = {
        f"answers/{name.removeprefix(candidate)}": (
            ours.get(champion + name.removeprefix(candidate)),
            value,
        )
        for name, value in sorted(ours.items())
        if name.startswith(candidate)
    }
    others = sorted(n for n in {*ours, *theirs} if not n.startswith((champion, candidate)))
    return found | {name: (theirs.get(name), ours.get(name)) for name in others}
