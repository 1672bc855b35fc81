"""What the stores and the rounds' folders say of one version, or of one piece of feedback.

Knows stores and files; lineage.py knows what follows from them, the command line and the console
show it. Invariant: everything is a JSON value.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from amends.adapter_store import AdapterStore
from amends.conversation import Conversation
from amends.conversation_store import ConversationStore
from amends.correction_outcomes import OUTCOMES
from amends.data_manifest import KINDS, DataManifest, rater_of
from amends.errors import NotFound
from amends.exclusion import covering
from amends.exclusion_store import ExclusionStore
from amends.feedback import Feedback
from amends.feedback_store import FeedbackStore
from amends.lineage import (
    NOT_LEARNED,
    Version,
    alias_moves,
    ancestry,
    carriers,
    champions,
    change,
    fate,
)
from amends.record import in_utc
from amends.run_files import read_data_manifest, read_versions
from amends.runs import Run, Runs
from amends.settings import Settings
from amends.store_client import StoreClient
from amends.verdict import judged


@dataclass(frozen=True)
class Archive:
    """Where it is looked up."""

    settings: Settings
    adapters: AdapterStore
    runs: Runs
    feedback: FeedbackStore
    conversations: ConversationStore
    exclusions: ExclusionStore

    @classmethod
    def of(cls, settings: Settings, adapters: AdapterStore, redis: StoreClient) -> "Archive":
        return cls(
            settings,
            adapters,
            Runs(redis),
            FeedbackStore(redis),
            ConversationStore(redis),
            ExclusionStore(redis),
        )


def of_adapter(number: int, archive: Archive) -> dict[str, Any]:
    """Everything about one version. NotFound: it, or what it learned from, is not here."""
    settings, adapters = archive.settings, archive.adapters
    manifests = {manifest.version: manifest for manifest in adapters.list()}
    if number not in manifests:
        what = "is the base model: it learned from no feedback" if not number else "does not exist"
        raise NotFound(f"version {number} {what}; `amends adapters list` names those that do")
    manifest = manifests[number]
    data = read_data_manifest(settings.runs_folder, manifest)
    versions = read_versions(settings.runs_folder, manifests.values())
    run = _run_of(versions[number], archive.runs)
    rewards = settings.reward_models_folder / f"{number:06d}"
    moves = alias_moves(number, adapters.audit(None)[::-1])
    changed, unknown = _changed(versions, number)
    return {
        "version": number,
        "aliases": [name for name, v in adapters.aliases().items() if v == number],
        "created_at": manifest.created_at,
        "base_hash": manifest.base_hash,
        "ancestry": list(ancestry(number, versions))[1:],
        "run_id": manifest.run_id,
        "run": run.model_dump(mode="json") if run is not None else None,
        "data_manifest_hash": manifest.data_manifest_hash,
        "without": list(data.without),
        "train": asdict(data.train),
        "holdout": asdict(data.holdout),
        "feedback": _feedback_of(data, versions[number].learned),
        "set_aside": data.dropped_by_reason(),
        "raters": _raters_of(data),
        "reward_model": str(rewards) if rewards.is_dir() else None,
        "verdict": judged(manifest.verdict),
        "reasons": list(manifest.verdict.reasons) if manifest.verdict else [],
        "alias_moves": [row.model_dump(mode="json") for row in moves],
        "corrections": _corrections_of(versions[number]),
        "changed": changed,
        "changed_unknown": unknown,
    }


def of_feedback(feedback_id: str, archive: Archive) -> dict[str, Any]:
    """Everything about one piece of feedback. NotFound: nobody knows it."""
    adapters, feedback = archive.adapters, archive.feedback
    versions = read_versions(archive.settings.runs_folder, adapters.list())
    aliases = adapters.aliases()
    rows = _rounds_of(feedback_id, versions, aliases, archive)
    conversation: Conversation | None = None
    try:
        given, state = feedback.get(feedback_id)
        conversation = _conversation_of(given, archive)
        stored = {
            "state": state,
            "claimed_by": feedback.runs_of(feedback_id),
            "record": given.model_dump(mode="json"),
            "says": given.says,
            "left_out": _left_out(given, conversation, archive),
        }
    except NotFound as error:
        if not rows:
            hint = "`amends lineage --adapter N --json` lists those of a version"
            raise NotFound(f"{error}, and no version saw it; {hint}") from None
        stored = {"state": None, "claimed_by": [], "record": None, "says": None, "left_out": None}
    carried, champion = carriers(feedback_id, versions), aliases["champion"]
    unknown = [number for number, version in versions.items() if version.data is None]
    # What replaced it has a time of its own; nothing is given before its conversation begins.
    since = conversation.turns[0].created_at if conversation and conversation.turns else 0.0
    may_have = {n for n in unknown if versions[n].manifest.created_at > since}
    gone = {n for n in ancestry(champion, versions) if n} - versions.keys()
    unknown, may_have = sorted({*unknown, *gone}), may_have | gone
    return {
        "feedback_id": feedback_id,
        **stored,
        "versions": rows,
        "in_the_weights_of": list(carried),
        "champion": champion,
        "champion_unknown": champion not in carried
        and not may_have.isdisjoint(ancestry(champion, versions)),
        "versions_without_data": unknown,
    }


def _rounds_of(
    feedback_id: str,
    versions: dict[int, Version],
    aliases: dict[str, int],
    archive: Archive,
) -> list[dict[str, Any]]:
    """What each round that saw the judgement did with it, and what it said then: a judgement may
    be given anew afterwards.
    """
    ever = champions(archive.adapters.audit(None))
    rows = []
    for number, version in versions.items():
        if (what := fate(version, feedback_id)) is None:
            continue
        outcome = version.outcomes.of(feedback_id) if version.outcomes else None
        then = archive.feedback.as_claimed(feedback_id, version.manifest.run_id)
        rows.append(
            {
                "version": number,
                "run": version.manifest.run_id,
                "what": what,
                "said": then.says if then is not None else None,
                "correction": outcome.outcome if outcome is not None else None,
                "now": ", ".join(name for name, v in aliases.items() if v == number) or None,
                "was_champion": number in ever,
            }
        )
    return rows


def _conversation_of(given: Feedback, archive: Archive) -> Conversation | None:
    try:
        return archive.conversations.read(given.conversation_id)
    except NotFound:
        return None


def _run_of(version: Version, runs: Runs) -> Run | None:
    """The run that made it; not another install's run of this number."""
    try:
        run = runs.get(version.manifest.run_id)
    except NotFound:
        return None
    return run if run.version == version.manifest.version else None


def _feedback_of(
    data: DataManifest, learned: Callable[[str], bool]
) -> dict[str, dict[str, list[str]]]:
    """Ids by kind and side; what no weights were fitted to although it was to train is beside."""
    found: dict[str, dict[str, list[str]]] = {}
    for kind in KINDS:
        found[kind] = {"train": [], "hold-out": [], "unknown side": [], NOT_LEARNED: []}
        for feedback_id in data.used(kind):
            side = data.places[feedback_id]
            as_placed = side == "hold-out" or learned(feedback_id)
            found[kind][side if as_placed else NOT_LEARNED].append(feedback_id)
    return found


def _raters_of(data: DataManifest) -> list[dict[str, Any]]:
    """The heaviest first; none where the round did not note weights."""
    weights = data.weight_by_rater()
    given = Counter(rater_of(feedback_id) for feedback_id in data.weights)
    total = sum(weights.values()) or 1.0
    return [
        {
            "rater": rater,
            "role": "expert" if rater in data.expert_shares else "visitor",
            "judgements": given[rater],
            "weight": round(weight, 3),
            "share": f"{weight / total:.1%}",
        }
        for rater, weight in weights.items()
    ]


def _corrections_of(version: Version) -> dict[str, Any]:
    """What became of them at the gate, beside the champion of then."""
    outcomes = version.outcomes
    if outcomes is None:
        return {"beside": None, "counts": {}, "ids": {}}
    ids = {name: list(outcomes.ids(name)) for name in OUTCOMES}
    counts = {str(name): len(found) for name, found in ids.items()}
    used = len(version.data.corrections) if version.data is not None else 0
    counts["not asked"] = max(0, used - len(outcomes.outcomes))
    return {"beside": outcomes.champion, "counts": counts, "ids": ids}


def _changed(versions: dict[int, Version], number: int) -> tuple[dict[str, Any] | None, str | None]:
    """Of a version that leaves somebody out: what it has otherwise than the champion of then, or
    why that is not known. Neither of the others.
    """
    after = versions[number]
    if after.data is None or not after.data.without:
        return None, None
    if after.outcomes is None:
        return None, "its round recorded no outcomes of corrections, nor the champion of then"
    champion = after.outcomes.champion
    if champion == 0:
        return None, "it was judged beside the base model, which learned from nobody"
    before = versions.get(champion)
    if before is None or before.data is None:
        return None, f"what version {champion}, the champion of then, learned from is not here"
    lines = ancestry(champion, versions), ancestry(number, versions)
    return asdict(change(before, after, *lines)), None


def _left_out(given: Feedback, conversation: Conversation | None, archive: Archive) -> str | None:
    """The exclusion that covers it now."""
    standing = archive.exclusions.standing()
    customer = conversation.visitor_id if conversation else None
    found = covering(standing, given.rater.rater_id, customer)
    if found is None:
        return None
    return f"{found}, since {in_utc(found.at)}, {found.by}: {found.reason}"
