"""By the clock: count the conversations that have settled, decide, and move the alias.

Knows stores, no statistics and no Celery. Invariants: may be called at any time, by several workers
at once, and twice; an alias is moved only as it was read, so an operator's move in between wins;
every move says its reason in the audit.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from amends.adapter_aliases import AliasFile
from amends.adapter_store import AdapterStore
from amends.canary import CanaryReport
from amends.canary_reports import CanaryReports
from amends.conversation_store import ConversationStore
from amends.errors import AdapterRefused, BadTransition
from amends.exclusion_store import ExclusionStore
from amends.feedback_store import FeedbackStore
from amends.store_client import StoreClient
from worker.canary.comparison import Comparison, comparison
from worker.canary.decision import decide
from worker.canary.observations import Observations
from worker.canary.outcomes import Observation, observe, without
from worker.canary.settings import CanarySettings

logger = logging.getLogger(__name__)

BY = "canary"
AT_ONCE = 2000  # conversations per look, so that it ends in time; the next look goes on
_CHUNK = 100  # conversations in memory, with their passages and tokens


@dataclass(frozen=True)
class Sources:
    """What a look reads and writes."""

    adapters: AdapterStore
    alias_file: AliasFile
    conversations: ConversationStore
    feedback: FeedbackStore
    exclusions: ExclusionStore
    observations: Observations
    reports: CanaryReports


def sources(folder: Path, redis: StoreClient) -> Sources | None:
    """None while there are no adapters. Of whichever base model they are: it is not loaded here."""
    alias_file = AliasFile(folder)
    aliases = alias_file.read()
    if aliases is None:
        return None
    return Sources(
        AdapterStore(folder, aliases.base_hash),
        alias_file,
        ConversationStore(redis),
        FeedbackStore(redis),
        ExclusionStore(redis),
        Observations(redis),
        CanaryReports(redis),
    )


def look(of: Sources, settings: CanarySettings, now: float) -> CanaryReport | None:
    """What is decided about the candidate on trial, and done; None when none is."""
    tried = comparison(of.alias_file.newest())
    if tried is None or not tried.tried:
        return None
    known = of.observations.read(tried)
    since = known[-1].began_at if known else tried.since
    for observed in _settled(of, tried, settings, since, now):  # kept, however far this look comes
        of.observations.add(tried, observed)
    counted = without(of.observations.read(tried), of.exclusions.standing())
    report = decide(tried, list(counted), settings, now)
    of.reports.write(report)
    try:
        _act(of.adapters, tried, report, settings)
    except BadTransition as moved:
        logger.info("candidate %d is looked at again: %s", tried.version, moved)
    except AdapterRefused as refused:
        logger.error("candidate %d is not promoted: %s", tried.version, refused)
    return report


def _settled(
    of: Sources, tried: Comparison, settings: CanarySettings, since: float, now: float
) -> Iterator[list[Observation]]:
    """Conversations of which a coin decided, that began from `since` on, long enough ago; in the
    order in which they began, some at a time."""
    begun: dict[str, float] = {}
    for tossed, ended in tried.tossed:
        span = max(tossed, since), min(ended, now - settings.settle_s)
        begun.update(of.conversations.begun(*span, AT_ONCE - len(begun)))
    names = list(begun)
    for first in range(0, len(names), _CHUNK):
        yield [
            observe(
                conversation,
                of.feedback.of_conversation(conversation.conversation_id),
                begun[conversation.conversation_id],
                settings.settle_s,
                tried,
            )
            for conversation in of.conversations.read_many(names[first : first + _CHUNK])
        ]


def _act(
    adapters: AdapterStore, tried: Comparison, report: CanaryReport, settings: CanarySettings
) -> None:
    if report.decision == "roll_back" and settings.roll_back:
        adapters.set_candidate(None, BY, report.reason, seen=tried.seen)
        logger.warning("candidate %d is withdrawn: %s", tried.version, report.reason)
    elif report.decision == "harmless" and settings.promote and tried.share:
        adapters.activate(tried.version, BY, report.reason, seen=tried.seen)
        logger.info("candidate %d is champion: %s", tried.version, report.reason)
