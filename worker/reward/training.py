"""The reward model of a round, and the judge that PPO never sees.

Two heads, each fitted on the other's hold-out: the reward model on the train side, the judge, with
other seeds, on the customers and questions of the hold-out side. The judge reads frozen features;
the reward model may have learnt some of its own. Knows the backbone through Features, no store.
Invariant: neither head is ever evaluated on a judgement it was fitted on.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from amends.errors import InvalidInput, NotEnoughData
from amends.lora import Lora
from worker.data.dataset import Dataset
from worker.data.examples import Answer, Examples
from worker.learning_settings import LearningSettings
from worker.reward.examples import AnswerTable, make_views, overlap_matrix
from worker.reward.features import Features
from worker.reward.intervals import Share
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.report import Previous, RewardReport, report_reward_head
from worker.reward.reward_head import RewardHead, Scores, fit_reward_head
from worker.reward.reward_head_store import load_reward_head, save_reward_head

JUDGE_SEED = 1000
JUDGE_MEMBERS = 4
JUDGE_MIN_PAIRS = 10  # it is measured on the train side before it is believed


@dataclass(frozen=True)
class ScoringModel:
    """A head with what it needs to read answers."""

    head: RewardHead
    features: Features

    def scores(self, answers: Sequence[Answer]) -> Scores:
        """Of each answer, (A,)."""
        return self.head.scores(self.features.of(answers), overlap_matrix(answers))

    def __call__(self, answers: Sequence[Answer]) -> Tensor:
        """What PPO maximises, (A,) float32."""
        return self.scores(answers).score.float()


@dataclass(frozen=True)
class PreviousReward:
    """The reward model of an earlier round; `lora` where it reads features of its own."""

    head: RewardHead
    lora: Lora | None


@dataclass(frozen=True)
class RewardModels:
    reward: ScoringModel | None  # None: the round does without PPO
    judge: ScoringModel | None  # None: the hold-out side has too few pairs
    report: RewardReport | None  # of the reward model on the hold-out side
    judge_report: RewardReport | None  # of the judge on the train side


def train_reward_models(
    dataset: Dataset,
    reference_samples: Sequence[Answer],
    features: Features,
    own_features: Features | None,
    settings: LearningSettings,
    folder: Path,
    previous: PreviousReward | None,
    with_reward: bool,
) -> RewardModels:
    """Fit both heads (or take them from `folder`, where an earlier attempt left them): the judge on
    frozen features, the reward model on `own_features` where it has learnt some.

    Raises NotEnoughData when a reward model is wanted and the train side has too few judged pairs.
    """
    table = AnswerTable.of([*dataset.train.answers(), *dataset.holdout.answers()])
    overlap, style = table.overlap(), overlap_matrix(reference_samples)

    def read(by: Features) -> tuple[Tensor, Tensor]:
        return by.of(table.answers), by.of(reference_samples)

    frozen = read(features)
    wanted = head_settings(settings)
    reward = report = judge = judge_report = None
    if with_reward:
        lm, samples = frozen if own_features is None else read(own_features)
        centre = (samples, style)
        head = _fitted(folder / "reward", lm, overlap, dataset.train, table, wanted, centre)
        head = replace(
            head,
            own_features=own_features is not None,
            train_pairs=frozenset(pair.feedback_id for pair in dataset.train.pairs),
            holdout_pairs=frozenset(pair.feedback_id for pair in dataset.holdout.pairs),
        )
        reward = ScoringModel(head, own_features or features)
        before = _opinion(previous, features, table, frozen[0], overlap)
        report = report_reward_head(head, dataset.holdout, table, lm, overlap, before)
    lm, samples = frozen
    # The judge stays what it is, however the reward model is set.
    other = RewardHeadSettings(
        min_pairs=min(JUDGE_MIN_PAIRS, settings.min_pairs),
        members=max(JUDGE_MEMBERS, settings.reward_members),
        seed=settings.seed + JUDGE_SEED,
    )
    with suppress(NotEnoughData):  # then the gate refuses: it has nothing to judge by
        centre = (samples, style)
        head = _fitted(folder / "judge", lm, overlap, dataset.holdout, table, other, centre)
        judge = ScoringModel(head, features)
        judge_report = report_reward_head(head, dataset.train, table, lm, overlap)
    return RewardModels(reward, judge, report, judge_report)


def head_settings(settings: LearningSettings) -> RewardHeadSettings:
    """The reward model's; the judge has its own."""
    return RewardHeadSettings(
        min_pairs=settings.min_pairs,
        members=settings.reward_members,
        rater_std=settings.rater_std,
        scalar_share=settings.scalar_share,
        seed=settings.seed,
    )


def report_numbers(models: RewardModels) -> dict[str, float]:
    """Both reports' measured figures by name, intervals included."""
    numbers: dict[str, float] = {}
    for prefix, report in (("reward", models.report), ("judge", models.judge_report)):
        for name, value in () if report is None else vars(report).items():
            if isinstance(value, float):
                numbers[f"{prefix}/{name}"] = value
            elif isinstance(value, Share):
                numbers[f"{prefix}/{name}"] = value.value
                numbers[f"{prefix}/{name}_low"] = value.low
                numbers[f"{prefix}/{name}_high"] = value.high
    return numbers


def _opinion(
    previous: PreviousReward | None,
    features: Features,
    table: AnswerTable,
    frozen: Tensor,
    overlap: Tensor,
) -> Previous | None:
    """What the previous model says of every answer; None without one that reads these features."""
    if previous is None:
        return None
    lm, head = frozen, previous.head
    if lm.shape[1] + overlap.shape[1] != head.weights.shape[1]:
        return None  # other layers, or another base model
    if previous.lora is not None:
        lm = replace(features, lora=previous.lora).of(table.answers)
    return Previous(head.scores(lm, overlap).mean, head.train_pairs, head.holdout_pairs)


def _fitted(
    folder: Path,
    lm: Tensor,
    overlap: Tensor,
    side: Examples,
    table: AnswerTable,
    settings: RewardHeadSettings,
    centre: tuple[Tensor, Tensor],
) -> RewardHead:
    if (folder / "manifest.json").is_file():
        try:
            return load_reward_head(folder)
        except InvalidInput:
            pass  # left by another version of this program, or torn: fit it again
    head = fit_reward_head(lm, overlap, make_views(side, table), settings).centred_on(*centre)
    save_reward_head(head, folder)
    return head
