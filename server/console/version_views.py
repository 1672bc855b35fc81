"""What the console's page of versions shows, computed from records.

Pure: no request, no store, no template. Invariant: only what the adapter store would let an
operator activate is offered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amends.adapter_aliases import Aliases
from amends.adapter_audit import AuditRow
from amends.adapter_manifest import Manifest
from amends.canary import CanaryReport, not_looked
from server.console.wording import number


@dataclass(frozen=True)
class VersionRow:
    version: int
    names: tuple[str, ...]
    serving: bool
    parent: int | None
    judged_beside: int | None
    run_id: int | None  # None: the base model, or a version whose files are gone
    created_at: float | None
    passed: bool | None
    reasons: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    can_activate: bool
    not_compared: str | None = None  # why one that passed may not be champion now


def version_rows(
    manifests: Sequence[Manifest], pointers: Aliases, serving: int
) -> tuple[VersionRow, ...]:
    """Newest first, the base model last. What an alias points at has a row without a manifest too:
    an operator must be able to take the alias away."""
    known = {manifest.version: manifest for manifest in manifests}
    gone = set(pointers.as_dict().values()) - set(known) - {0}
    rows = [
        _version_row(known[version], pointers, serving)
        if version in known
        else _bare_row(version, pointers, serving)
        for version in sorted({*known, *gone}, reverse=True)
    ]
    base = _bare_row(0, pointers, serving)
    return (*rows, replace(base, can_activate=pointers.champion != 0))


@dataclass(frozen=True)
class Trial:
    """What is known of the candidate's present trial; seen_at: when a worker last looked."""

    lines: tuple[str, ...]
    seen_at: float | None


def trial_view(
    report: CanaryReport | None, rows: Sequence[AuditRow], share: float, now: float
) -> Trial | None:
    """None: it has not begun. `rows`: of the present candidacy, the one that began it first; a
    report of an earlier trial says nothing, though it were of the same version."""
    if report is not None and (not rows or report.began != rows[0].number):
        report = None
    warning = not_looked(report, share, now)
    lines = (*((warning,) if warning else ()), *(report.lines() if report else ()))
    return Trial(lines, report.at if report else None) if lines else None


def _version_row(manifest: Manifest, pointers: Aliases, serving: int) -> VersionRow:
    verdict = manifest.verdict
    passed = verdict.passed if verdict is not None else False
    why_not = manifest.why_not(pointers.champions)
    return VersionRow(
        version=manifest.version,
        names=_names(manifest.version, pointers),
        serving=serving == manifest.version,
        parent=manifest.parent,
        judged_beside=verdict.champion if verdict is not None else None,
        run_id=manifest.run_id,
        created_at=manifest.created_at,
        passed=passed,
        reasons=verdict.reasons if verdict is not None else ("no verdict",),
        metrics=tuple((name, number(value)) for name, value in manifest.metrics.items()),
        can_activate=why_not is None and pointers.champion != manifest.version,
        not_compared=why_not if passed else None,
    )


def _bare_row(version: int, pointers: Aliases, serving: int) -> VersionRow:
    return VersionRow(
        version=version,
        names=_names(version, pointers),
        serving=serving == version,
        parent=None,
        judged_beside=None,
        run_id=None,
        created_at=None,
        passed=None,
        reasons=(),
        metrics=(),
        can_activate=False,
    )


def _names(version: int, pointers: Aliases) -> tuple[str, ...]:
    return tuple(name for name, named in pointers.as_dict().items() if named == version)
