"""The trainer process: `python -m worker.trainer --run ID --epoch E`.

The composition root of one round: opens the stores, gathers what the round needs as values, runs
it, publishes. Knows no maths. Invariants: everything it writes is fenced by the run's epoch; a
version is published at most once per run; the run's end is recorded after the version is on disk.

Exit codes: 0 the run ended as CANDIDATE or REJECTED, 10 stopped after a checkpoint, 11 the lease
was lost, 12 the data were refused (the last line says why), anything else is a crash to be tried
again.
"""

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from amends.activity import Activity
from amends.adapter_store import AdapterStore
from amends.backbone import Backbone
from amends.base_model import (
    base_hash,
    ensure_base_model,
    load_causal_lm,
    load_tokenizer,
    serving_dtype,
)
from amends.conversation_store import ConversationStore
from amends.errors import InvalidInput, LeaseLost, NotEnoughData, SettingsError
from amends.events import RunEvents
from amends.feedback_store import FeedbackStore
from amends.knowledge import Knowledge, folder_of
from amends.lora import Lora, load_lora, save_lora
from amends.prompt import PromptRenderer
from amends.runs import Ended, Run, Runs
from amends.settings import Settings
from amends.store_client import StoreClient, connect
from amends.verdict import Verdict
from worker.data.dataset import Dataset, DatasetSettings, FillUp, build_dataset
from worker.data.examples import Context, PromptExample
from worker.data.split import SplitSettings
from worker.judge.thresholds import GateThresholds
from worker.learning_settings import LearningSettings
from worker.ppo.update import LearningFailed
from worker.reporting import Cancelled, stage
from worker.reward.reward_head import RewardHead
from worker.reward.reward_head_store import load_reward_head, save_reward_head
from worker.run_reporter import RunReporter
from worker.tokens import AnswerTokens
from worker.training_round import Round, RoundResult, run_round

log = logging.getLogger(__name__)

RECENT_CONVERSATIONS = 500
DONE, STOPPED, LEASE_LOST, REFUSED = 0, 10, 11, 12


@dataclass(frozen=True)
class Stores:
    """Everything outside this process that a round reads or writes."""

    runs: Runs
    events: RunEvents
    feedback: FeedbackStore
    conversations: ConversationStore
    activity: Activity
    adapters: AdapterStore


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m worker.trainer", description=__doc__)
    parser.add_argument("--run", type=int, required=True, help="the claimed run")
    parser.add_argument("--epoch", type=int, required=True, help="its fencing epoch")
    arguments = parser.parse_args()
    settings = Settings()
    if settings.redis_url is None:
        raise SettingsError("the trainer needs AMENDS_REDIS_URL")
    model = ensure_base_model(settings)
    adapters = AdapterStore(settings.adapters_folder, base_hash(model))
    stores = _open_stores(connect(settings.redis_url), adapters)
    try:
        stores.runs.check(arguments.run, arguments.epoch)
        _perform(stores.runs.get(arguments.run), stores, settings, model)
    except Cancelled as stopped:
        log.info("%s", stopped)
        return STOPPED
    except LeaseLost as lost:
        log.warning("%s", lost)
        return LEASE_LOST
    except (NotEnoughData, LearningFailed) as refused:
        print(refused, file=sys.stderr)
        return REFUSED
    return DONE


def _perform(run: Run, stores: Stores, settings: Settings, model: Path) -> None:
    folder = settings.runs_folder / str(run.run_id)
    report = RunReporter(run, stores.runs, stores.events, stores.activity, folder, settings.threads)
    torch.set_num_threads(settings.threads)
    learning = LearningSettings()
    knowledge = Knowledge.load(folder_of(settings))
    try:
        dataset = _dataset(run, stores, knowledge, settings, learning, report)
        lm = load_causal_lm(model, serving_dtype(settings))
        backbone = Backbone(lm, settings.context_tokens)
        shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
        renderer = PromptRenderer(
            load_tokenizer(model), settings.context_tokens, settings.max_response_tokens
        )
        champion = stores.adapters.alias("champion")
        start: Lora | None = None
        if champion != 0:
            stores.adapters.verify(champion)
            start = load_lora(stores.adapters.folder(champion), shape)
        result = run_round(
            Round(
                backbone=backbone,
                lora_shape=shape,
                tokens=AnswerTokens(renderer, knowledge.shop.name),
                dataset=dataset,
                must_pass=_must_pass(knowledge, settings),
                champion=start,
                previous_reward=_previous_reward(settings),
                optimizer=run.optimizer,
                settings=learning,
                thresholds=GateThresholds(),
                folder=folder,
                report=report,
            )
        )
        verdict = Verdict(passed=result.verdict.passed, reasons=result.verdict.reasons)
        with stage(report, "publish"):
            version = _publish(
                run, stores, settings, dataset, champion, model.name, result, verdict
            )
        state: Ended = "CANDIDATE" if verdict.passed else "REJECTED"
        stores.runs.finish(run.run_id, run.epoch, state, version=version, verdict=verdict)
    finally:
        report.close()


def _dataset(
    run: Run,
    stores: Stores,
    knowledge: Knowledge,
    settings: Settings,
    learning: LearningSettings,
    report: RunReporter,
) -> Dataset:
    with stage(report, "claim"):
        stores.feedback.claim(run.run_id)
        feedback = stores.feedback.all_used(run.run_id)
        ids = sorted({item.conversation_id for item in feedback})
        conversations = {i: stores.conversations.read(i) for i in ids}
        # Prompts come from all conversations, not only from those that somebody judged.
        for conversation in stores.conversations.recent(RECENT_CONVERSATIONS):
            conversations.setdefault(conversation.conversation_id, conversation)
        report.log(f"{len(feedback)} pieces of feedback on {len(conversations)} conversations")
    with stage(report, "dataset"):
        questions = [q for q in knowledge.questions if not q.must_pass]
        fill_up = [
            FillUp(q.question, knowledge.retrieve(q.question, settings.passages), q.intent)
            for q in questions
        ]
        fill_up = [item for item in fill_up if item.passages]
        wanted = DatasetSettings(
            split=SplitSettings(holdout_share=learning.holdout_share),
            holdout_prompts=learning.gate_prompts,
        )
        dataset = build_dataset(feedback, conversations, fill_up, wanted)
        folder = settings.runs_folder / str(run.run_id)
        (folder / "data_manifest.json").write_text(dataset.manifest.to_json())
        for sizes, name in (
            (dataset.manifest.train, "train"),
            (dataset.manifest.holdout, "hold-out"),
        ):
            report.log(
                f"{name}: {sizes.corrections} corrections, {sizes.pairs} pairs, {sizes.thumbs} "
                f"thumbs, {sizes.ratings} ratings, {sizes.prompts} prompts"
            )
    return dataset


def _must_pass(knowledge: Knowledge, settings: Settings) -> list[PromptExample]:
    """The shop's must-pass questions; they are never trained on."""
    found = []
    for question in knowledge.questions:
        passages = knowledge.retrieve(question.question, settings.passages)
        if question.must_pass and passages:
            context = Context("", question.question, (), passages, token_ids=None)
            found.append(PromptExample(context, question.id, question.intent, fill_up=True))
    return found


def _previous_reward(settings: Settings) -> RewardHead | None:
    """The newest reward model of an earlier round, when this program can still read it."""
    if not settings.reward_models_folder.is_dir():
        return None
    for folder in sorted(settings.reward_models_folder.iterdir(), reverse=True):
        try:
            return load_reward_head(folder)
        except InvalidInput as error:
            log.warning("%s", error)
    return None


def _publish(
    run: Run,
    stores: Stores,
    settings: Settings,
    dataset: Dataset,
    parent: int,
    model_name: str,
    result: RoundResult,
    verdict: Verdict,
) -> int:
    """The version, whole on disk; the alias `candidate` points at it when it passed."""
    staged = stores.adapters.stage(run.run_id)
    save_lora(result.candidate, staged, model_name)
    manifest = stores.adapters.publish(
        staged,
        parent=parent,
        run_id=run.run_id,
        data_manifest_hash=dataset.manifest.hash,
        metrics=result.metrics,
        verdict=verdict,
        fence=lambda: stores.runs.check(run.run_id, run.epoch),
    )
    if result.reward is not None:
        save_reward_head(result.reward, settings.reward_models_folder / f"{manifest.version:06d}")
    if verdict.passed:
        stores.adapters.set_candidate(manifest.version, f"run {run.run_id}", "passed the gate")
    return manifest.version


def _open_stores(client: StoreClient, adapters: AdapterStore) -> Stores:
    return Stores(
        Runs(client),
        RunEvents(client),
        FeedbackStore(client),
        ConversationStore(client),
        Activity(client),
        adapters,
    )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # torch's idle threads need no farewell
