"""A version that passed the gate becomes the candidate; where nobody is asked, on trial at once.

Knows aliases, no run. Invariants: one move, once; what an operator or a trial decided before or
meanwhile stands.
"""

from collections.abc import Iterable

from amends.adapter_audit import AuditRow
from amends.adapter_manifest import Manifest
from amends.adapter_store import AdapterStore
from amends.errors import AdapterRefused, BadTransition, NotFound
from worker.canary.comparison import comparison
from worker.canary.settings import CanarySettings


def propose(
    adapters: AdapterStore, manifest: Manifest, by: str, settings: CanarySettings
) -> str | None:
    """What an operator should know about it now; None: it waits to be looked at, or somebody has
    decided about it before."""
    version, now = manifest.version, adapters.pointers()
    waits = f"version {version} waits in the list"
    share, reason = 0.0, "passed the gate"
    if not settings.approval:
        share, reason = settings.share, "passed the gate; approvals are switched off"
    try:
        if now.candidate == version or _decided(version, adapters.newest()):
            return None
        if (why_not := manifest.why_not(now.champions)) is not None:
            return why_not
        if now.candidate is not None and _on_trial(now.candidate_share, adapters.newest()):
            paused = "" if now.candidate_share else ", paused at a share of 0"
            return f"{waits}: version {now.candidate} is on trial{paused}"
        adapters.set_candidate(version, by, reason, share=share, seen=now.last_row.number)
    except (AdapterRefused, BadTransition, NotFound) as refused:
        return f"{waits}: {refused}"
    if not share:
        return None
    return f"version {version} answers {share:.0%} of the conversations that begin"


def _decided(version: int, newest: Iterable[AuditRow]) -> bool:
    """Whether an alias has moved to it since its publication, before which no row is read."""
    of_it = next((row for row in newest if row.version == version), None)
    return of_it is not None and of_it.action != "publish"


def _on_trial(share: float, newest: Iterable[AuditRow]) -> bool:
    """Whether the candidate answers visitors, or has; also where an audit that was put away cannot
    say."""
    trial = comparison(newest)
    return share > 0 or trial is None or trial.tried
