"""Candidate, champion and base model sit the same examination: the measurements that the gate
decides on.

Knows the engine and the judge, no thresholds. Invariants: every policy answers the same prompts
with the same seeds; the judge is not the model that PPO maximised; what cannot be measured stays
None.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from amends.backbone import Backbone
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Sampling
from amends.lora import Lora
from worker.data.dataset import Dataset
from worker.data.examples import Answer, PromptExample
from worker.judge.behaviour import JudgedAnswer, measure_behaviour
from worker.judge.measurements import Kept, Measurements
from worker.judge.win_rate import win_rate_from_scores
from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import frozen_logprobs
from worker.ppo.kl import k1
from worker.ppo.rollout import Episodes, sample_episodes
from worker.reward.intervals import Share
from worker.reward.overlap import asks_back, deflects, invented_numbers
from worker.reward.training import RewardModels, ScoringModel
from worker.tokens import AnswerTokens, TokenBatch, by_length

BASE, CHAMPION, CANDIDATE = 0, 1, 2
MIN_UNSEEN = 24  # fewer questions cannot carry the win rate alone
TIE_MARGIN = 0.05  # judge scores (standard deviations of the reference) closer than this are a tie


@dataclass(frozen=True)
class Examined:
    """The measurements, and the answers for people to read."""

    measurements: Measurements
    prompts: tuple[PromptExample, ...]
    champion: tuple[Answer, ...]
    candidate: tuple[Answer, ...]


@dataclass(frozen=True)
class Paper:
    """Prompts with every policy's answers and, where there is a judge, their scores."""

    prompts: tuple[PromptExample, ...]
    answers: dict[int, tuple[Answer, ...]]
    scores: dict[int, list[float]]  # means of the judge's members
    doubts: dict[int, list[float]]  # their standard deviations

    def wins_over(self, other: int) -> Share | None:
        """The candidate's paired win rate; None without a judge."""
        if not self.scores:
            return None
        clusters = [prompt.customer for prompt in self.prompts]
        ours, theirs = self.scores[CANDIDATE], self.scores[other]
        return win_rate_from_scores(ours, theirs, clusters, TIE_MARGIN)

    def kept(self, champions: int) -> Kept | None:
        """How many that the champion answers well the candidate loses; None without a judge."""
        if not self.scores:
            return None
        held = lost = 0
        before, now = self._marks(champions), self._marks(CANDIDATE)
        for (answer, score, doubt), (new_answer, new_score, new_doubt) in zip(
            before, now, strict=True
        ):
            if answers_well(answer, score):
                held += 1
                # Of one answer the judge is not sure; lost is what it is sure to be worse.
                worse = new_score + 2 * new_doubt < score - 2 * doubt
                lost += worse and not answers_well(new_answer, new_score)
        return Kept(held, lost)

    def _marks(self, policy: int) -> Iterator[tuple[Answer, float, float]]:
        return zip(self.answers[policy], self.scores[policy], self.doubts[policy], strict=True)


@dataclass(frozen=True)
class Examiner:
    backbone: Backbone
    tokens: AnswerTokens
    settings: LearningSettings
    beat: Callable[[], None]

    def examine(
        self,
        dataset: Dataset,
        must_pass: Sequence[PromptExample],
        champion: Lora | None,
        candidate: Lora,
        models: RewardModels,
    ) -> Examined:
        """All policies on the hold-out prompts, then on what must not be lost."""
        engine = self._engine(candidate, champion)
        champions = BASE if champion is None else CHAMPION
        papers = {
            part: self._sit(engine, {BASE, champions, CANDIDATE}, prompts, models.judge)
            for part, prompts in (
                ("held out", _held_out(dataset, self.settings.gate_prompts)),
                ("must pass", tuple(must_pass)),
                ("corrected", _corrected(dataset)[: self.settings.gate_prompts]),
            )
        }
        paper = papers["held out"]
        ours, theirs = paper.answers[CANDIDATE], paper.answers[champions]
        report, manifest = models.report, dataset.manifest
        kl = self._kl(engine, paper.prompts, candidate, champion)
        measured = Measurements(
            trusted_items=len(manifest.corrections) + len(manifest.rankings),
            largest_visitor_share=manifest.largest_visitor_share,
            quarantined_used=manifest.quarantined_used,
            reward_accuracy=None if report is None else report.accuracy,
            previous_reward_accuracy=None if report is None else report.previous,
            calibration_error=None if report is None else report.thumb_calibration_error,
            calibration_by_chance=None if report is None else report.thumb_calibration_chance,
            candidate_variance=_variance(models, ours),
            champion_variance=_variance(models, theirs),
            finite_weights=all(bool(t.isfinite().all()) for t in candidate.tensors.values()),
            kl=kl[0],
            kl_to_base=kl[1],
            candidate=measure_behaviour([_judged(a) for a in ours]),
            champion=measure_behaviour([_judged(a) for a in theirs]),
            wins_over_champion=paper.wins_over(champions),
            wins_over_base=paper.wins_over(BASE),
            must_pass=papers["must pass"].kept(champions),
            corrected=papers["corrected"].kept(champions),
        )
        return Examined(measured, paper.prompts, theirs, ours)

    def _sit(
        self,
        engine: Engine,
        policies: set[int],
        prompts: tuple[PromptExample, ...],
        judge: ScoringModel | None,
    ) -> "Paper":
        sampling = Sampling(self.settings.gate_tokens, self.settings.gate_temperature)
        answers = {v: self._sample(engine, v, prompts, sampling).answers for v in policies}
        scores: dict[int, list[float]] = {}
        doubts: dict[int, list[float]] = {}
        if judge is not None:
            for version, written in answers.items():
                found = judge.scores(written)
                scores[version] = found.mean.tolist()
                doubts[version] = found.variance.sqrt().tolist()
        return Paper(prompts, answers, scores, doubts)

    def _engine(self, candidate: Lora, champion: Lora | None) -> Engine:
        limits = Limits(max_running=48, max_positions=self.backbone.max_positions)
        ends = self.tokens.renderer.eos_token_ids
        engine = Engine(self.backbone, candidate.shape, ends, limits)
        engine.write(CANDIDATE, candidate)
        if champion is not None:
            engine.write(CHAMPION, champion)
        return engine

    def _sample(
        self,
        engine: Engine,
        version: int,
        prompts: Sequence[PromptExample],
        sampling: Sampling,
    ) -> Episodes:
        pairs = [(prompt, self.tokens.prompt(prompt.context)) for prompt in prompts]
        seed = 7_000_000 + self.settings.seed * 1000
        renderer = self.tokens.renderer
        return sample_episodes(engine, version, pairs, renderer, sampling, seed, self.beat)

    @torch.no_grad()
    def _kl(
        self,
        engine: Engine,
        prompts: Sequence[PromptExample],
        candidate: Lora,
        champion: Lora | None,
    ) -> tuple[float, float]:
        """Nats per response to the champion and to the base model, on rollouts of the candidate."""
        temperature = self.settings.temperature
        sampling = Sampling(self.settings.rollout_tokens, temperature)
        drawn = self._sample(engine, CANDIDATE, prompts[: self.settings.episodes], sampling)
        totals = [0.0, 0.0]
        for group in by_length(drawn.tokens, self.settings.micro_batch):
            self.beat()
            batch = TokenBatch.of([drawn.tokens[i] for i in group], self.backbone.device)
            ours = frozen_logprobs(self.backbone, candidate, batch, temperature)
            for place, other in enumerate((champion, None)):
                theirs = frozen_logprobs(self.backbone, other, batch, temperature)
                totals[place] += float(k1(ours, theirs, batch.mask).sum())
        return totals[0] / len(drawn.tokens), totals[1] / len(drawn.tokens)


def answers_well(answer: Answer, score: float) -> bool:
    """Ends, says something, and the judge finds it at least as good as the reference's average."""
    context = answer.context
    return (
        score >= 0
        and answer.ended
        and not deflects(answer.response)
        and not asks_back(answer.response)
        and not invented_numbers(context.question, context.passage_texts, answer.response)
    )


def _held_out(dataset: Dataset, most: int) -> tuple[PromptExample, ...]:
    """Hold-out questions, those first that the judge was not fitted on.

    The judge has learned to dislike the very answers that experts corrected there, so on those
    questions whoever answers differently has an advantage; they are asked only where others lack.
    """
    fitted = {pair.chosen.context.question for pair in dataset.holdout.pairs}
    prompts = dataset.holdout.prompts
    unseen = tuple(p for p in prompts if p.context.question not in fitted)
    if len(unseen) >= MIN_UNSEEN:
        return unseen[:most]
    return (unseen + tuple(p for p in prompts if p.context.question in fitted))[:most]


def _corrected(dataset: Dataset) -> tuple[PromptExample, ...]:
    """Every corrected question once, those first that the supervised steps did not imitate."""
    found: dict[str, PromptExample] = {}
    for side in (dataset.holdout, dataset.train):
        for correction in side.corrections:
            context = correction.answer.context
            prompt = PromptExample(context, correction.customer, "", fill_up=False)
            found.setdefault(context.question, prompt)
    return tuple(found.values())


def _variance(models: RewardModels, answers: Sequence[Answer]) -> float | None:
    return None if models.reward is None else float(models.reward.scores(answers).variance.mean())


def _judged(answer: Answer) -> JudgedAnswer:
    context = answer.context
    count = len(answer.token_ids or ())
    return JudgedAnswer(
        context.question, context.passage_texts, answer.response, count, answer.ended
    )
