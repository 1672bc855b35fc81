"""What the console's page of versions shows, computed from records.

Pure: no request, no store, no template. Invariant: only what the adapter store would let an
operator activate is offered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amends.adapter_aliases import Aliases
from amends.adapter_manifest import Manifest
from amends.canary import CanaryReport
from server.console.wording import number


@dataclass(frozen=True)
class VersionRow:
    version: int
    names: tuple[str, ...]
    serving: bool
    parent: int | None
    judged_beside: int | None
    run_id: int | None
    created_at: float | None
    passed: bool | None
    reasons: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    can_activate: bool
    not_compared: str | None = None  # why one that passed may not be champion now


def version_rows(
    manifests: Sequence[Manifest], pointers: Aliases, serving: int
) -> tuple[VersionRow, ...]:
    """Newest first, the base model last."""
    rows = [_version_row(manifest, pointers, serving) for manifest in reversed(manifests)]
    base = VersionRow(
        version=0,
        names=_names(0, pointers),
        serving=serving == 0,
        parent=None,
        judged_beside=None,
        run_id=None,
        created_at=None,
        passed=None,
        reasons=(),
        metrics=(),
        can_activate=pointers.champion != 0,
    )
    return (*rows, base)


def canary_lines(
    report: CanaryReport | None, candidate: int | None, champion: int
) -> tuple[str, ...]:
    """Of the candidate on trial beside this champion; none of another trial."""
    if report is None or (report.version, report.champion) != (candidate, champion):
        return ()
    return report.lines()


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


def _names(version: int, pointers: Aliases) -> tuple[str, ...]:
    return tuple(name for name, named in pointers.as_dict().items() if named == version)
