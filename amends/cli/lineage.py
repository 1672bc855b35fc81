"""`amends lineage`: what a version was made of, and what became of a piece of feedback.

Knows the stores and what rounds leave on disk; amends/lineage.py knows what follows from it.
Invariant: `--json` says everything; a table says how much it leaves out.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amends.cli.adapters import judged
from amends.cli.install import adapter_store, opened_store, read_settings
from amends.cli.lineage_tables import NAMED, show_adapter, show_feedback
from amends.cli.output import AsJson, print_json, when
from amends.errors import NotFound

if TYPE_CHECKING:
    from amends.adapter_store import AdapterStore
    from amends.data_manifest import DataManifest
    from amends.feedback import Feedback
    from amends.lineage import Version
    from amends.runs import Run
    from amends.settings import Settings
    from amends.store_client import StoreClient

_EVERY_ROW = 1_000_000  # of the audit log: one for each move of an alias


def lineage(
    adapter: Annotated[
        int | None, typer.Option(metavar="VERSION", min=0, help="What was this version made of?")
    ] = None,
    feedback: Annotated[
        str | None, typer.Option(metavar="ID", help="What became of this feedback?")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Ids, raters and visitors that a table names; --json: all.")
    ] = NAMED,
    as_json: AsJson = False,
) -> None:
    """Ask in either direction: what a version learned from, or which versions learned from this.

    A feedback id is KIND:TURN:RATER (a rating's: rating:CONVERSATION:RATER), as the API answers
    it and as `amends lineage --adapter N --json` lists it.
    """
    if (adapter is None) == (feedback is None):
        raise typer.BadParameter("expected either --adapter VERSION or --feedback ID")
    settings = read_settings()
    adapters = adapter_store(settings)
    with opened_store(settings) as (_, store):
        show: Callable[[dict[str, Any], int], None]
        if adapter is not None:
            found, show = of_adapter(adapter, settings, adapters, store), show_adapter
        else:
            found, show = of_feedback(feedback or "", settings, adapters, store), show_feedback
    if as_json:
        print_json(found)
    else:
        show(found, limit)


def of_adapter(
    number: int, settings: "Settings", adapters: "AdapterStore", store: "StoreClient"
) -> dict[str, Any]:
    """Everything about one version, as JSON values."""
    from amends.lineage import alias_moves, ancestry
    from amends.run_files import read_data_manifest, read_versions

    manifests = {manifest.version: manifest for manifest in adapters.list()}
    if number not in manifests:
        what = "is the base model: it learned from no feedback" if not number else "does not exist"
        raise NotFound(f"version {number} {what}; `amends adapters list` names those that do")
    manifest = manifests[number]
    data = read_data_manifest(settings.runs_folder, manifest)
    versions = read_versions(settings.runs_folder, manifests.values())
    run = _run_of(versions[number], store)
    rewards = settings.reward_models_folder / f"{number:06d}"
    moves = alias_moves(number, adapters.audit(_EVERY_ROW)[::-1])
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
        "feedback": _feedback_of(data),
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


def of_feedback(
    feedback_id: str, settings: "Settings", adapters: "AdapterStore", store: "StoreClient"
) -> dict[str, Any]:
    """Everything about one piece of feedback, as JSON values."""
    from amends.feedback_store import FeedbackStore
    from amends.lineage import carriers, champions, fate
    from amends.run_files import read_versions

    versions = read_versions(settings.runs_folder, adapters.list())
    aliases, ever = adapters.aliases(), champions(adapters.audit(_EVERY_ROW))
    rows = []
    for number, version in versions.items():
        if (what := fate(version, feedback_id)) is None:
            continue
        outcome = version.outcomes.of(feedback_id) if version.outcomes else None
        rows.append(
            {
                "version": number,
                "run": version.manifest.run_id,
                "what": what,
                "correction": outcome.outcome if outcome is not None else None,
                "now": ", ".join(name for name, v in aliases.items() if v == number) or None,
                "was_champion": number in ever,
            }
        )
    feedback = FeedbackStore(store)
    try:
        given, state = feedback.get(feedback_id)
        stored = {
            "state": state,
            "claimed_by": feedback.runs_of(feedback_id),
            "record": given.model_dump(mode="json"),
            "left_out": _left_out(given, store),
        }
    except NotFound as error:
        if not rows:
            hint = "`amends lineage --adapter N --json` lists those of a version"
            raise NotFound(f"{error}, and no version saw it; {hint}") from None
        stored = {"state": None, "claimed_by": [], "record": None, "left_out": None}
    return {
        "feedback_id": feedback_id,
        **stored,
        "versions": rows,
        "in_the_weights_of": list(carriers(feedback_id, versions)),
        "champion": aliases["champion"],
        "versions_without_data": [n for n, version in versions.items() if version.data is None],
    }


def _run_of(version: "Version", store: "StoreClient") -> "Run | None":
    """The run that made it; not another install's run of this number."""
    from amends.runs import Runs

    try:
        run = Runs(store).get(version.manifest.run_id)
    except NotFound:
        return None
    return run if run.version == version.manifest.version else None


def _feedback_of(data: "DataManifest") -> dict[str, dict[str, list[str]]]:
    """Ids by kind and side."""
    from amends.data_manifest import KINDS

    found: dict[str, dict[str, list[str]]] = {}
    for kind in KINDS:
        found[kind] = {"train": [], "hold-out": [], "unknown side": []}
        for feedback_id in data.used(kind):
            found[kind][data.place_of(feedback_id)].append(feedback_id)
    return found


def _raters_of(data: "DataManifest") -> list[dict[str, Any]]:
    """The heaviest first; none where the round did not note weights."""
    from amends.data_manifest import rater_of

    weights = data.weight_by_rater()
    given = [rater_of(feedback_id) for feedback_id in data.weights]
    total = sum(weights.values()) or 1.0
    return [
        {
            "rater": rater,
            "role": "expert" if rater in data.expert_shares else "visitor",
            "judgements": given.count(rater),
            "weight": round(weight, 3),
            "share": f"{weight / total:.1%}",
        }
        for rater, weight in weights.items()
    ]


def _corrections_of(version: "Version") -> dict[str, Any]:
    """What became of them at the gate, beside the champion of then."""
    from amends.correction_outcomes import OUTCOMES

    outcomes = version.outcomes
    if outcomes is None:
        return {"beside": None, "counts": {}, "ids": {}}
    ids = {name: list(outcomes.ids(name)) for name in OUTCOMES}
    counts = {str(name): len(found) for name, found in ids.items()}
    used = len(version.data.corrections) if version.data is not None else 0
    counts["not asked"] = max(0, used - len(outcomes.outcomes))
    return {"beside": outcomes.champion, "counts": counts, "ids": ids}


def _changed(
    versions: "dict[int, Version]", number: int
) -> tuple[dict[str, Any] | None, str | None]:
    """Of a version that leaves somebody out: what it has otherwise than the champion of then, or
    why that is not known. Neither of the others.
    """
    from amends.lineage import change

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
    return asdict(change(before, after)), None


def _left_out(given: "Feedback", store: "StoreClient") -> str | None:
    """The exclusion that covers it now."""
    from amends.conversation_store import ConversationStore
    from amends.exclusion import covering
    from amends.exclusion_store import ExclusionStore

    standing = ExclusionStore(store).standing()
    try:
        customer = ConversationStore(store).read(given.conversation_id).visitor_id
    except NotFound:
        customer = None
    found = covering(standing, given.rater.rater_id, customer)
    return f"{found}, since {when(found.at)}, {found.by}: {found.reason}" if found else None
