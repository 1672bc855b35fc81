"""What a round starts from, gathered as values: the dataset, the must-pass questions, the champion,
the parent.

Knows the stores, no training. Invariant: every attempt of a run gathers the same: what the first
one saw (which conversations, how long, which champion) is written down beside the run, and
checkpoints live under a key of everything that they depend on.
"""

import hashlib
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from amends.adapter_store import AdapterStore
from amends.conversation import Conversation, Turn
from amends.conversation_store import ConversationStore
from amends.durable_file import replace_file
from amends.errors import NotFound
from amends.feedback_store import FeedbackStore
from amends.knowledge import Knowledge
from amends.lineage import clean_parent
from amends.record import Record
from amends.run_files import DATA_MANIFEST, read_versions, set_aside
from amends.runs import Run
from amends.settings import Settings
from worker.data.dataset import Dataset, DatasetSettings, FillUp, build_dataset
from worker.data.examples import Context, PromptExample
from worker.data.quarantine import QuarantineSettings
from worker.data.split import SplitSettings
from worker.data.trust import TrustSettings
from worker.judge.asked import MustPass
from worker.learning_settings import LearningSettings
from worker.reporting import Reporter, stage

log = logging.getLogger(__name__)

RECENT_CONVERSATIONS = 500  # prompts come from these too, not only from what somebody judged


class Seen(Record):
    """What the first attempt of a run saw."""

    schema_version: int = 1
    run_created_at: float
    champion: int
    turns: dict[str, int]  # conversation id -> how many turns it had


@dataclass(frozen=True)
class Sources:
    """Where the inputs are read from."""

    feedback: FeedbackStore
    conversations: ConversationStore
    adapters: AdapterStore


@dataclass(frozen=True)
class RoundInputs:
    dataset: Dataset
    must_pass: MustPass
    champion: int
    parent: int  # the champion, or its newest ancestor that never used what is left out
    work_folder: Path  # checkpoints of exactly these inputs


def gather(
    run: Run,
    sources: Sources,
    knowledge: Knowledge,
    settings: Settings,
    learning: LearningSettings,
    report: Reporter,
) -> RoundInputs:
    """Claim the feedback and read all that belongs to it."""
    folder = settings.runs_folder / str(run.run_id)
    with stage(report, "claim"):
        sources.feedback.claim(run.run_id)
        feedback = sources.feedback.all_used(run.run_id)
        seen = _seen(run, sources, {item.conversation_id for item in feedback}, folder)
        conversations = _conversations(sources, seen)
        report.log(f"{len(feedback)} pieces of feedback on {len(conversations)} conversations")
    with stage(report, "dataset"):
        must_pass = _must_pass(knowledge, settings)
        if must_pass.unasked:
            report.log(f"{must_pass.unasked} must-pass questions find no passage and are not asked")
        wanted = DatasetSettings(
            quarantine=QuarantineSettings(
                burst_items=learning.burst_items,
                brigade_visitors=learning.brigade_visitors,
                brigade_window_s=learning.brigade_window_s,
                given_before=_given_before(run, learning),
            ),
            trust=TrustSettings(
                learning.visitor_weight, learning.visitor_items, learning.anonymous_share
            ),
            split=SplitSettings(holdout_share=learning.holdout_share),
            holdout_prompts=4 * learning.gate_prompts,  # the examiner chooses among them
            reserved=frozenset(q.question for q in knowledge.questions if q.must_pass),
            without=run.without,
        )
        dataset = build_dataset(feedback, conversations, _fill_up(knowledge, settings), wanted)
        replace_file(folder / DATA_MANIFEST, dataset.manifest.to_json().encode())
        for line in dataset.manifest.in_words():
            report.log(line)
        parent = _parent(run, seen.champion, sources.adapters, settings, report)
    policy = (sources.adapters.base_hash, settings.lora_rank, settings.lora_alpha)
    key = _key(dataset, seen, learning, parent, policy)
    return RoundInputs(dataset, must_pass, seen.champion, parent, folder / f"work-{key[:16]}")


def _seen(run: Run, sources: Sources, judged: set[str], folder: Path) -> Seen:
    """As the first attempt wrote it down, or written down now."""
    path = folder / "inputs.json"
    if path.is_file():
        kept = Seen.model_validate_json(path.read_bytes())
        if kept.run_created_at == run.created_at:
            return kept
    set_aside(folder)  # what another install's run of this number left
    turns = {}
    for conversation in sources.conversations.recent(RECENT_CONVERSATIONS):
        turns[conversation.conversation_id] = len(conversation.turns)
    for conversation_id in sorted(judged - turns.keys()):
        try:
            turns[conversation_id] = len(sources.conversations.read(conversation_id).turns)
        except NotFound:
            log.warning("conversation %s is gone; its feedback is not used", conversation_id)
    champion = sources.adapters.alias("champion")
    seen = Seen(run_created_at=run.created_at, champion=champion, turns=turns)
    replace_file(path, seen.model_dump_json(indent=1).encode())
    return seen


def _conversations(sources: Sources, seen: Seen) -> dict[str, Conversation]:
    found = {}
    for conversation_id, count in seen.turns.items():
        try:
            whole = sources.conversations.read(conversation_id)
        except NotFound:
            continue
        turns = tuple(_in_our_tokens(t, sources.adapters.base_hash) for t in whole.turns[:count])
        found[conversation_id] = whole.model_copy(update={"turns": turns})
    return found


def _in_our_tokens(turn: Turn, base_hash: str) -> Turn:
    """The turn without what was sampled, where another base model wrote it: its numbers spell
    other words here, so its texts are encoded anew.
    """
    if turn.sampled is None or turn.sampled.base_hash == base_hash:
        return turn
    return turn.model_copy(update={"sampled": None})


def _fill_up(knowledge: Knowledge, settings: Settings) -> list[FillUp]:
    """The shop's own questions, for the topics that no visitor asked about yet."""
    items = [
        FillUp(q.question, knowledge.retrieve(q.question, settings.passages), q.intent)
        for q in knowledge.questions
        if not q.must_pass
    ]
    return [item for item in items if item.passages]


def _must_pass(knowledge: Knowledge, settings: Settings) -> MustPass:
    """The shop's must-pass questions; they are never trained on."""
    found, unasked = [], 0
    for question in (q for q in knowledge.questions if q.must_pass):
        passages = knowledge.retrieve(question.question, settings.passages)
        if passages:
            context = Context("", question.question, (), passages, token_ids=None)
            found.append(PromptExample(context, question.id, question.intent, fill_up=True))
        else:
            unasked += 1
    return MustPass(tuple(found), unasked)


def _given_before(run: Run, learning: LearningSettings) -> float:
    """Feedback given from then on waits for the next round, which reads all of it again. The run's
    own time counts, so that every attempt draws the line at the same place.
    """
    return run.created_at - learning.feedback_age_s if learning.feedback_age_s else math.inf


def _parent(
    run: Run, champion: int, adapters: AdapterStore, settings: Settings, report: Reporter
) -> int:
    """The version to train from. Manifests never change, so every attempt finds the same."""
    if not run.without:
        return champion
    versions = read_versions(settings.runs_folder, adapters.list())
    parent, behind = clean_parent(champion, versions, run.without)
    if behind:
        named = ", ".join(map(str, behind))
        report.log(f"trained from version {parent}: {named} used what is left out, or build on it")
    return parent


def _key(
    dataset: Dataset,
    seen: Seen,
    learning: LearningSettings,
    parent: int,
    policy: tuple[str, int, float],
) -> str:
    """A hash of everything that a checkpoint of this round depends on; `policy` is the base model
    with rank and alpha of its adapters."""
    parts = [
        dataset.manifest.content_hash,
        seen.run_created_at,
        seen.champion,
        parent,
        learning.model_dump(mode="json"),
        policy,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
