"""A version that passed the gate becomes the candidate; where nobody is asked, on trial at once.

Knows aliases, no run. Invariant: what an operator or a trial decides meanwhile stands.
"""

from amends.adapter_manifest import Manifest
from amends.adapter_store import AdapterStore
from amends.errors import BadTransition
from worker.canary.settings import CanarySettings


def propose(
    adapters: AdapterStore, manifest: Manifest, by: str, settings: CanarySettings
) -> str | None:
    """What an operator should know about it now; None: it waits to be looked at. May be called
    again."""
    version = manifest.version
    adapters.set_candidate(version, by, "passed the gate")
    now = adapters.pointers()
    if now.champion == version:
        return None
    if now.candidate != version:
        return f"version {version} waits in the list: version {now.candidate} is on trial"
    why_not = manifest.why_not(now.champions)
    if why_not is not None or settings.approval:
        return why_not
    reason = "passed the gate; approvals are switched off"
    try:
        adapters.set_candidate(version, by, reason, share=settings.share, seen=now.last_row.number)
    except BadTransition as moved:
        return f"version {version} is not on trial: {moved}"
    return f"version {version} answers {settings.share:.0%} of the conversations that begin"
