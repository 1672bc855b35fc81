"""The trainer process: `python -m worker.trainer --run ID --epoch E`.

The composition root of one round: opens the stores, gathers what the round needs as values, runs
it, publishes. Knows no maths. Invariants: everything it writes is fenced by the run's epoch; a
version is published at most once per run; the run's end is recorded after the version is on disk.

In a team (worker/ppo/team.py) only the first process does this; the others help with its PPO.

Exit codes: 0 the run ended as CANDIDATE or REJECTED, 10 stopped after a checkpoint, 11 the lease
was lost, 12 the data or the settings were refused (the last line says why), anything else is a
crash to be tried again.
"""

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from amends.activity import Activity
from amends.adapter_manifest import Manifest
from amends.adapter_store import AdapterStore
from amends.backbones import AnyBackbone, load_backbone
from amends.base_model import base_hash, ensure_base_model, load_tokenizer
from amends.child_process import nice_session
from amends.conversation_store import ConversationStore
from amends.correction_outcomes import CorrectionOutcomes
from amends.errors import LeaseLost, NotEnoughData, SettingsError
from amends.events import Log, RunEvents
from amends.feedback_store import FeedbackStore
from amends.knowledge import Knowledge, folder_of
from amends.lora import Lora, LoraShape, load_lora, save_lora
from amends.prompt import PromptRenderer
from amends.run_files import write_outcomes
from amends.runs import Ended, Run, Runs
from amends.settings import Settings, from_environment
from amends.store_client import StoreClient, connect
from amends.verdict import Verdict
from worker.canary.proposal import propose
from worker.canary.settings import CanarySettings
from worker.judge.probes import load_probes
from worker.judge.thresholds import GateThresholds
from worker.learning_settings import LearningSettings
from worker.ppo.followers import dismiss, follow
from worker.ppo.team import Team
from worker.reporting import Cancelled, LearningFailed, stage
from worker.reward.training import PreviousReward
from worker.reward_model_files import (
    keep_reward_model,
    newest_reward_model,
    stage_reward_model,
)
from worker.round_inputs import RoundInputs, Sources, gather
from worker.run_reporter import RunReporter
from worker.tokens import AnswerTokens
from worker.training_round import Round, RoundResult, run_round

log = logging.getLogger(__name__)

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
    settings = from_environment(Settings)
    if settings.redis_url is None:
        raise SettingsError("the trainer needs AMENDS_REDIS_URL")
    model = ensure_base_model(settings)
    torch.set_num_threads(settings.threads)
    team = Team.from_environment()
    if team.size > 1:  # the launcher gave us a session of our own
        nice_session(os.nice(0))
    if not team.leads:
        shop = Knowledge.load(folder_of(settings)).shop
        follow(team, *_policy_parts(model, settings, shop.name))
        return DONE
    adapters = AdapterStore(settings.adapters_folder, base_hash(model))
    stores = _open_stores(connect(settings.redis_url), adapters)
    try:
        stores.runs.check(arguments.run, arguments.epoch)
        _perform(stores.runs.get(arguments.run), stores, settings, model, team)
        dismiss(team)
    except Cancelled as stopped:
        log.info("%s", stopped)
        return STOPPED
    except LeaseLost as lost:
        log.warning("%s", lost)
        return LEASE_LOST
    except (NotEnoughData, LearningFailed, SettingsError) as refused:
        print(refused, file=sys.stderr)
        if team.size > 1:  # the launcher keeps our exit code to itself
            stores.runs.finish(arguments.run, arguments.epoch, "FAILED", error=str(refused))
        return REFUSED
    return DONE


def _perform(run: Run, stores: Stores, settings: Settings, model: Path, team: Team) -> None:
    published = stores.adapters.of_run(run.run_id, run.created_at)
    if published is not None:  # an earlier attempt was killed between its publication and here
        _finish(run, stores, settings, published)
        return
    folder = settings.runs_folder / str(run.run_id)
    report = RunReporter(run, stores.runs, stores.events, stores.activity, folder, settings.threads)
    learning, thresholds = from_environment(LearningSettings), from_environment(GateThresholds)
    knowledge = Knowledge.load(folder_of(settings))
    sources = Sources(stores.feedback, stores.conversations, stores.adapters)
    try:
        inputs = gather(run, sources, knowledge, settings, learning, report)
        backbone, tokens = _policy_parts(model, settings, knowledge.shop.name)
        shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
        champion = _adapter(stores.adapters, inputs.champion, shape)
        same = inputs.parent == inputs.champion
        result = run_round(
            Round(
                backbone=backbone,
                lora_shape=shape,
                tokens=tokens,
                dataset=inputs.dataset,
                must_pass=inputs.must_pass,
                probes=load_probes(),
                champion=champion,
                parent=champion if same else _adapter(stores.adapters, inputs.parent, shape),
                previous_reward=_previous_reward(stores.adapters, settings, shape),
                optimizer=run.optimizer,
                settings=learning,
                thresholds=thresholds,
                folder=inputs.work_folder,
                report=report,
                team=team,
            )
        )
        with stage(report, "publish"):
            write_outcomes(
                folder,
                CorrectionOutcomes(
                    data_manifest_hash=inputs.dataset.manifest.hash,
                    champion=inputs.champion,
                    outcomes=result.examined.corrections,
                ),
            )
            manifest = _publish(run, stores, settings, inputs, model.name, result)
        _finish(run, stores, settings, manifest)
    finally:
        report.close()


def _policy_parts(
    model: Path, settings: Settings, shop_name: str
) -> tuple[AnyBackbone, AnswerTokens]:
    renderer = PromptRenderer(
        load_tokenizer(model), settings.context_tokens, settings.max_response_tokens
    )
    return load_backbone(model, settings), AnswerTokens(renderer, shop_name)


def _adapter(adapters: AdapterStore, version: int, shape: LoraShape) -> Lora | None:
    """The version's weights, checked; None for the base model."""
    if version == 0:
        return None
    adapters.verify(version)
    return load_lora(adapters.folder(version), shape)


def _previous_reward(
    adapters: AdapterStore, settings: Settings, shape: LoraShape
) -> PreviousReward | None:
    versions = [manifest.version for manifest in adapters.list()]
    return newest_reward_model(settings.reward_models_folder, versions, shape)


def _publish(
    run: Run,
    stores: Stores,
    settings: Settings,
    inputs: RoundInputs,
    model_name: str,
    result: RoundResult,
) -> Manifest:
    """The version, whole on disk; the reward model that it was trained against, on its way."""
    staged = stores.adapters.stage(run.run_id)
    save_lora(result.candidate, staged, model_name)

    def fence() -> None:
        """Nobody else works on the run from here on: the reward model is this attempt's."""
        stores.runs.check(run.run_id, run.epoch)
        stage_reward_model(result.reward, settings.runs_folder / str(run.run_id), model_name)

    return stores.adapters.publish(
        staged,
        parent=inputs.parent,
        run_id=run.run_id,
        run_created_at=run.created_at,
        data_manifest_hash=inputs.dataset.manifest.hash,
        metrics=result.metrics,
        verdict=Verdict(
            passed=result.verdict.passed, reasons=result.verdict.reasons, champion=inputs.champion
        ),
        fence=fence,
    )


def _finish(run: Run, stores: Stores, settings: Settings, manifest: Manifest) -> None:
    """What the manifest says, on the alias and in the run's record: the end of the run."""
    folder = settings.runs_folder / str(run.run_id)
    keep_reward_model(folder, settings.reward_models_folder, manifest.version)
    verdict = manifest.verdict
    passed = verdict is not None and verdict.passed
    if passed:
        canary = from_environment(CanarySettings)
        stores.runs.check(run.run_id, run.epoch)
        told = propose(stores.adapters, manifest, f"run {run.run_id}", canary)
        if told is not None:
            stores.events.publish(run.run_id, Log(text=told))
    state: Ended = "CANDIDATE" if passed else "REJECTED"
    stores.runs.finish(run.run_id, run.epoch, state, version=manifest.version, verdict=verdict)


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
