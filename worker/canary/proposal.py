"""A version that passed the gate becomes the candidate; where nobody is asked, on trial at once.

Knows aliases, no run. Invariants: one move, once; what an operator or a trial decided before or
meanwhile stands.
"""

from amends.adapter_manifest import Manifest
from amends.adapter_store import AdapterStore
from amends.errors import AdapterRefused, BadTransition
from worker.canary.comparison import comparison
from worker.canary.settings import CanarySettings


def propose(
    adapters: AdapterStore, manifest: Manifest, by: str, settings: CanarySettings
) -> str | None:
    """What an operator should know about it now; None: it waits to be looked at, or somebody has
    decided about it before."""
    version = manifest.version
    now = adapters.pointers()
    try:
        rows = adapters.audit(None)
    except AdapterRefused as unreadable:
        return f"version {version} waits in the list: {unreadable}"
    if any(row.version == version and row.action != "publish" for row in rows):
        return None
    why_not = manifest.why_not(now.champions)
    if why_not is not None:
        return why_not
    trial = comparison(rows)
    if trial is not None and trial.tried:
        paused = "" if now.candidate_share else ", paused at a share of 0"
        return f"version {version} waits in the list: version {trial.version} is on trial{paused}"
    share, reason = 0.0, "passed the gate"
    if not settings.approval:
        share, reason = settings.share, "passed the gate; approvals are switched off"
    try:
        adapters.set_candidate(version, by, reason, share=share, seen=now.last_row.number)
    except BadTransition as moved:
        return f"version {version} waits in the list: {moved}"
    if not share:
        return None
    return f"version {version} answers {share:.0%} of the conversations that begin"
