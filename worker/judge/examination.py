"""Candidate, champion and base model sit the same examination: the measurements that the gate
decides on.

Knows the engine and the judge, no thresholds. Invariants: every policy answers the same prompts
with the same seeds; the judge is not the model that PPO maximised; what cannot be measured stays
None.
"""

from collections.abc import Callable, Sequence
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
from worker.ppo.rollout import Episodes, sample_episodes
from worker.reward.intervals import Share
from worker.reward.overlap import asks_back, deflects, invented_numbers
from worker.reward.training import RewardModels, ScoringModel
from worker.tokens import AnswerTokens, TokenBatch, by_length

BASE, CHAMPION, CANDIDATE = 0, 1, 2
TIE_MARGIN = 0.05  # judge scores (standard deviations of the reference) closer than this are a tie
LOST_MARGIN = 0.5  # an answer is lost only when it is worse by more than the judge's noise


@dataclass(frozen=True)
class Examined:
    """The measurements, and the answers for people to read."""

    measurements: Measurements
    prompts: tuple[PromptExample, ...]
    champion: tuple[Answer, ...]
    candidate: tuple[Answer, ...]


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
        """Both policies (and the base model, when it is not the champion) on the hold-out
        prompts."""
        engine = self._engine(candidate, champion)
        held_out = dataset.holdout.prompts[: self.settings.gate_prompts]
        corrected = _corrected(dataset)
        champions = BASE if champion is None else CHAMPION
        answers = {
            version: self._answers(engine, version, (*held_out, *must_pass, *corrected))
            for version in {BASE, champions, CANDIDATE}
        }
        judge, report = models.judge, models.report
        scores = {} if judge is None else {v: _scores(judge, a.answers) for v, a in answers.items()}
        size, tested = len(held_out), len(must_pass)
        kept: list[Kept | None] = [None, None]
        wins: dict[int, Share | None] = {}
        if scores:
            clusters = [prompt.customer for prompt in held_out]
            for other in (champions, BASE):
                wins[other] = win_rate_from_scores(
                    scores[CANDIDATE][:size], scores[other][:size], clusters, TIE_MARGIN
                )
            parts = (slice(size, size + tested), slice(size + tested, None))
            kept = [
                _kept(answers[champions], answers[CANDIDATE], scores, champions, part)
                for part in parts
            ]
        manifest = dataset.manifest
        first = {v: a.answers[:size] for v, a in answers.items()}
        kl = self._kl(engine, held_out, candidate)
        variance = _variance(models, first[CANDIDATE]), _variance(models, first[champions])
        measured = Measurements(
            trusted_items=len(manifest.corrections) + len(manifest.rankings),
            largest_visitor_share=manifest.largest_visitor_share,
            quarantined_used=manifest.quarantined_used,
            reward_accuracy=None if report is None else report.accuracy,
            previous_reward_accuracy=None if report is None else report.previous,
            calibration_error=None if report is None else report.thumb_calibration_error,
            candidate_variance=variance[0],
            champion_variance=variance[1],
            finite_weights=all(bool(t.isfinite().all()) for t in candidate.tensors.values()),
            kl=kl,
            candidate=measure_behaviour([_judged(a) for a in first[CANDIDATE]]),
            champion=measure_behaviour([_judged(a) for a in first[champions]]),
            wins_over_champion=wins.get(champions),
            wins_over_base=wins.get(BASE),
            must_pass=kept[0],
            corrected=kept[1],
        )
        return Examined(measured, held_out, first[champions], first[CANDIDATE])

    def _engine(self, candidate: Lora, champion: Lora | None) -> Engine:
        limits = Limits(max_running=32, max_waiting=32, max_positions=self.backbone.max_positions)
        ends = self.tokens.renderer.eos_token_ids
        engine = Engine(self.backbone, candidate.shape, ends, limits)
        engine.write(CANDIDATE, candidate)
        if champion is not None:
            engine.write(CHAMPION, champion)
        return engine

    def _answers(self, engine: Engine, version: int, prompts: Sequence[PromptExample]) -> Episodes:
        sampling = Sampling(self.settings.gate_tokens, self.settings.gate_temperature)
        return self._sample(engine, version, prompts, sampling)

    def _sample(
        self,
        engine: Engine,
        version: int,
        prompts: Sequence[PromptExample],
        sampling: Sampling,
    ) -> Episodes:
        found: list[Episodes] = []
        for start in range(0, len(prompts), 32):
            self.beat()
            part = [(p, self.tokens.prompt(p.context)) for p in prompts[start : start + 32]]
            seed = 7_000_000 + self.settings.seed * 1000 + start
            found.append(
                sample_episodes(engine, version, part, self.tokens.renderer, sampling, seed)
            )
        return Episodes(
            tuple(t for part in found for t in part.tokens),
            tuple(a for part in found for a in part.answers),
        )

    @torch.no_grad()
    def _kl(self, engine: Engine, prompts: Sequence[PromptExample], candidate: Lora) -> float:
        """Nats per response from the candidate to the base model, on samples at rollout
        temperature.
        """
        temperature = self.settings.temperature
        sampling = Sampling(self.settings.rollout_tokens, temperature)
        drawn = self._sample(engine, CANDIDATE, prompts[: self.settings.episodes], sampling)
        total = 0.0
        for group in by_length(drawn.tokens, self.settings.micro_batch):
            self.beat()
            batch = TokenBatch.of([drawn.tokens[i] for i in group], self.backbone.device)
            ours = frozen_logprobs(self.backbone, candidate, batch, temperature)
            base = frozen_logprobs(self.backbone, None, batch, temperature)
            total += float((ours - base).sum())
        return total / len(drawn.tokens)


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


def _kept(
    champion: Episodes,
    candidate: Episodes,
    scores: dict[int, list[float]],
    champions: int,
    part: slice,
) -> Kept:
    held = lost = 0
    rows = zip(
        champion.answers[part],
        candidate.answers[part],
        scores[champions][part],
        scores[CANDIDATE][part],
        strict=True,
    )
    for before, now, score_before, score_now in rows:
        if not answers_well(before, score_before):
            continue
        held += 1
        worse = score_now < score_before - LOST_MARGIN
        lost += worse and not answers_well(now, score_now)
    return Kept(held, lost)


def _corrected(dataset: Dataset) -> tuple[PromptExample, ...]:
    """Every corrected question once, whichever side it is on."""
    found: dict[str, PromptExample] = {}
    for side in (dataset.train, dataset.holdout):
        for correction in side.corrections:
            context = correction.answer.context
            prompt = PromptExample(context, correction.customer, "", fill_up=False)
            found.setdefault(context.question, prompt)
    return tuple(found.values())


def _scores(judge: ScoringModel, answers: Sequence[Answer]) -> list[float]:
    return [float(score) for score in judge.scores(answers).mean]


def _variance(models: RewardModels, answers: Sequence[Answer]) -> float | None:
    return None if models.reward is None else float(models.reward.scores(answers).variance.mean())


def _judged(answer: Answer) -> JudgedAnswer:
    context = answer.context
    count = len(answer.token_ids or ())
    return JudgedAnswer(
        context.question, context.passage_texts, answer.response, count, answer.ended
    )
