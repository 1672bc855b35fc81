"""One round in reading order: dataset -> supervised steps -> reward model -> PPO -> gate.

Knows no store, no queue, no process: everything comes in as values, everything goes out as one.
Invariant: each stage leaves what a resumed round needs in `folder`, so a killed round repeats at
most the work since its last checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from amends.backbones import AnyBackbone
from amends.lora import Lora, LoraShape
from amends.runs import Optimizer
from worker.checkpoints import Checkpoints
from worker.data.dataset import Dataset
from worker.data.examples import PromptExample
from worker.enough_data import MIN_CORRECTIONS, enough_for_ppo
from worker.first_policy import Writer, supervised_gain, uncorrected
from worker.judge.asked import MustPass
from worker.judge.examination import Examined, Examiner
from worker.judge.gate import GateVerdict, check_names, judge_candidate
from worker.judge.measurements import Kept
from worker.judge.probes import Probe
from worker.judge.thresholds import WITHOUT_REWARD_MODEL, GateThresholds
from worker.learning_settings import LearningSettings
from worker.ppo.followers import lead
from worker.ppo.length import LengthLimit
from worker.ppo.team import ALONE, Team
from worker.ppo.training import PpoParts
from worker.reporting import Reporter, stage
from worker.reward.features import Features
from worker.reward.training import (
    PreviousReward,
    RewardModels,
    ScoringModel,
    head_settings,
    report_numbers,
    train_reward_models,
)
from worker.reward.trunk import adapt_features
from worker.sft import train_sft
from worker.tokens import AnswerTokens, Tokens

Item = TypeVar("Item")


@dataclass(frozen=True)
class Round:
    """What a round works with. `champion` or `parent` None is the base model; they are the same
    unless somebody is left out, from whom the champion has learned.
    """

    backbone: AnyBackbone
    lora_shape: LoraShape
    tokens: AnswerTokens
    dataset: Dataset
    must_pass: MustPass
    probes: Sequence[Probe]
    champion: Lora | None  # what the candidate would replace
    parent: Lora | None  # what it is trained from
    previous_reward: PreviousReward | None
    optimizer: Optimizer
    settings: LearningSettings
    thresholds: GateThresholds
    folder: Path
    report: Reporter
    team: Team = ALONE  # of PPO; the rest is this process's


@dataclass(frozen=True)
class RoundResult:
    candidate: Lora
    reward: ScoringModel | None
    verdict: GateVerdict
    examined: Examined
    metrics: dict[str, float]


def run_round(task: Round) -> RoundResult:
    """Train a candidate and judge it. Raises SettingsError, NotEnoughData, LearningFailed, and what
    `beat` raises."""
    check_names(task.thresholds)
    task = _with_room(task)
    with_ppo = _choose(task)
    parent = Lora.fresh(task.lora_shape, task.settings.seed) if task.parent is None else task.parent
    policy = _supervised(task, parent, with_ppo)
    models, length = _reward_models(task, parent, with_ppo)
    metrics = report_numbers(models)
    if models.reward is not None:
        start = _start(task, parent, policy, models.reward)
        policy = _reinforced(task, start.clone(), models.reward, length)
    with stage(task.report, "gate"):
        examined = _examine(task, policy, models)
        optional = task.thresholds.optional | (frozenset() if with_ppo else WITHOUT_REWARD_MODEL)
        thresholds = task.thresholds.model_copy(update={"optional": optional})
        verdict = judge_candidate(examined.measurements, thresholds)
    metrics |= _gate_numbers(examined)
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    task.report.metrics("gate", 1, metrics)
    return RoundResult(policy, models.reward, verdict, examined, metrics)


def _with_room(task: Round) -> Round:
    """Less what finds no room in the context, and says how much that is."""
    fits = task.tokens.fits
    train, holdout = task.dataset.train.only(fits), task.dataset.holdout.only(fits)
    sides = (task.dataset.train, task.dataset.holdout), (train, holdout)
    before, after = ({e.feedback_id for side in of for e in side.judged()} for of in sides)
    if lost := len(before - after):
        task.report.log(f"{lost} judgements find no room in the context and are not used")
    asked = _that_fit(task, "must-pass questions", task.must_pass.prompts, _alone)
    return replace(
        task,
        dataset=replace(task.dataset, train=train, holdout=holdout),
        must_pass=task.must_pass.only(asked),
        probes=_that_fit(task, "probes", task.probes, Probe.prompts),
    )


def _that_fit(
    task: Round,
    what: str,
    items: Sequence[Item],
    prompts: Callable[[Item], Iterable[PromptExample]],
) -> list[Item]:
    fits = task.tokens.fits
    found = [item for item in items if all(fits(prompt.context) for prompt in prompts(item))]
    if count := len(items) - len(found):
        task.report.log(f"{count} {what} find no room in the context and are not asked")
    return found


def _alone(prompt: PromptExample) -> tuple[PromptExample, ...]:
    return (prompt,)


def _choose(task: Round) -> bool:
    """Whether PPO runs after the supervised steps. Raises NotEnoughData when nothing can run."""
    enough = enough_for_ppo(
        task.dataset, task.must_pass, task.optimizer, task.settings, task.thresholds
    )
    if not enough:
        pairs = task.dataset.train.trusted_pairs
        task.report.log(f"{pairs} judged pairs: supervised steps only this round")
    return enough and task.optimizer != "sft"


def _supervised(task: Round, policy: Lora, with_ppo: bool) -> Lora:
    """Few passes where PPO follows: a policy that says one thing leaves it nothing to choose."""
    corrections, settings = task.dataset.train.corrections, task.settings
    if task.optimizer == "ppo" or len(corrections) < MIN_CORRECTIONS:
        return policy
    with stage(task.report, "sft"):
        items = [task.tokens.imitated(correction.answer) for correction in corrections]
        checkpoints = Checkpoints(task.folder / "sft")
        epochs = settings.sft_epochs if with_ppo else settings.sft_epochs_alone
        settings = settings.model_copy(update={"sft_epochs": epochs})
        return train_sft(task.backbone, policy, items, settings, checkpoints, task.report)


def _reward_models(
    task: Round, parent: Lora, with_reward: bool
) -> tuple[RewardModels, LengthLimit]:
    """What the parent writes at the rollout temperature is the scale's zero and unit, and what
    too long is measured by."""
    settings, report = task.settings, task.report
    features = Features(
        task.backbone, task.tokens, settings.reward_layers, settings.micro_batch, report.beat
    )
    with stage(report, "reward"):
        prompts = task.dataset.train.prompts[: settings.episodes]
        (samples,) = _writer(task, prompts).answers(parent)
        learnt = None
        if with_reward and settings.reward_epochs:
            fresh = replace(features, lora=Lora.fresh(task.lora_shape, settings.seed))
            checkpoints = Checkpoints(task.folder / "reward-features")
            learnt = adapt_features(
                fresh, task.dataset.train, head_settings(settings), settings, checkpoints, report
            )
        models = train_reward_models(
            task.dataset,
            samples,
            features,
            learnt,
            settings,
            task.folder,
            task.previous_reward,
            with_reward,
        )
        report.metrics("reward", 1, report_numbers(models))
    lengths = [len(sample.token_ids or ()) for sample in samples]
    return models, LengthLimit.over(lengths, task.thresholds.max_length_ratio)


def _start(task: Round, parent: Lora, supervised: Lora, scorer: ScoringModel) -> Lora:
    """Of PPO; told where imitating the experts is no good start."""
    if supervised is parent:
        return parent
    file = task.folder / "first_policy.json"
    prompts = uncorrected(task.dataset.train, task.settings.episodes)
    gain = supervised_gain(_writer(task, prompts), parent, supervised, scorer, file)
    task.report.metrics("reward", 1, {"sft/score_gain": gain.mean, "sft/score_gain_low": gain.low})
    if gain.low > task.settings.sft_min_gain:
        return supervised
    task.report.log(
        f"the reward model sees no sure gain of {task.settings.sft_min_gain:.2f} in the supervised "
        f"steps ({gain.mean:.2f}, at least {gain.low:.2f}): PPO starts from their parent"
    )
    return parent


def _writer(task: Round, prompts: Sequence[PromptExample]) -> Writer:
    return Writer(task.backbone, task.tokens, prompts, task.settings, task.report.beat)


def _reinforced(task: Round, policy: Lora, scorer: ScoringModel, length: LengthLimit) -> Lora:
    with stage(task.report, "ppo"):
        parts = PpoParts(
            backbone=task.backbone,
            tokens=task.tokens,
            reference=policy.clone(),
            scorer=scorer,
            prompts=task.dataset.train.prompts,
            settings=task.settings,
            checkpoints=Checkpoints(task.folder / "ppo"),
            report=task.report,
            length=length,
            corrections=_mixed_in(task),
            team=task.team,
        )
        state = lead(parts, policy)
        if state.capped:
            task.report.log(
                f"KL {state.last_kl:.1f} nats passed the cap: PPO ends with the policy before"
            )
        return state.policy.lora.clone()


def _mixed_in(task: Round) -> list[Tokens]:
    """The corrections that PPO's updates imitate; none where that is switched off."""
    if task.settings.ptx_coef == 0:
        return []
    return [task.tokens.imitated(c.answer) for c in task.dataset.train.corrections]


def _examine(task: Round, policy: Lora, models: RewardModels) -> Examined:
    examiner = Examiner(task.backbone, task.tokens, task.settings, task.report.beat)
    return examiner.examine(
        task.dataset,
        task.must_pass,
        task.champion,
        policy,
        models,
        task.probes,
        task.parent,
    )


def _gate_numbers(examined: Examined) -> dict[str, float]:
    found = examined.measurements
    told = {
        "gate/kl": found.kl,
        "gate/kl_to_base": found.kl_to_base,
    }
    numbers = {name: value for name, value in told.items() if value is not None}
    if (gain := found.reward_gain) is not None:
        numbers |= {"gate/reward_gain": gain.mean}
        numbers |= {"gate/reward_gain_low": gain.low, "gate/reward_gain_high": gain.high}
    for name, share in (("champion", found.wins_over_champion), ("base", found.wins_over_base)):
        if share is not None:
            numbers[f"gate/wins_over_{name}"] = share.value
            numbers[f"gate/wins_over_{name}_low"] = share.low
    for name in ("must_pass", "corrected", "recalled", "reworded"):
        kept: Kept | None = getattr(found, name)
        if kept is not None:
            numbers |= {f"gate/{name}_held": kept.held, f"gate/{name}_lost": len(kept.lost)}
    for name, behaviour in (("champion", found.champion), ("candidate", found.candidate)):
        if behaviour is not None:
            numbers |= {f"gate/{name}/{k}": float(v) for k, v in vars(behaviour).items()}
    for kind, probed in (found.probes or {}).items():
        name = kind.replace(" ", "_")
        numbers[f"gate/champion/probes/{name}"] = probed.champion.value
        numbers[f"gate/candidate/probes/{name}"] = probed.candidate.value
    return numbers
