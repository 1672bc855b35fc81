"""Candidate, champion and base model sit the same examination: the measurements that the gate
decides on.

Knows the engine and the judge, no thresholds. Invariants: every policy answers the same prompts
with the same seeds; the judge is not the model that PPO maximised; what cannot be measured stays
None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from amends.backbones import AnyBackbone
from amends.correction_outcomes import CorrectionOutcome
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Sampling
from amends.lora import Lora
from worker.data.dataset import Dataset
from worker.data.examples import Answer, PromptExample
from worker.data.manifest import quarantined_used
from worker.judge.behaviour import JudgedAnswer, measure_behaviour
from worker.judge.measurements import Kept, Measurements, Probed, ProbeKind
from worker.judge.outcomes import correction_outcomes
from worker.judge.paper import BASE, CANDIDATE, CHAMPION, Paper
from worker.judge.probe_measures import compare_on_probes, probe_outcomes
from worker.judge.probes import Probe
from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import frozen_logprobs
from worker.ppo.kl import k1
from worker.ppo.rollout import Episodes, sample_episodes
from worker.reward.report import RewardReport
from worker.reward.training import RewardModels, ScoringModel
from worker.tokens import AnswerTokens, TokenBatch, by_length

MIN_UNSEEN = 24  # fewer questions cannot carry the win rate alone
SITTINGS = 5  # of a question that looks lost or a probe that changed: most of them decide


@dataclass(frozen=True)
class Examined:
    """The measurements, and the answers for people to read. The rewards are the mean opinions of
    the model that PPO maximised: told beside the judge's, no check reads them."""

    measurements: Measurements
    prompts: tuple[PromptExample, ...]
    champion: tuple[Answer, ...]
    candidate: tuple[Answer, ...]
    champion_reward: float | None
    candidate_reward: float | None
    corrections: tuple[CorrectionOutcome, ...]


@dataclass(frozen=True)
class Examiner:
    backbone: AnyBackbone
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
        probes: Sequence[Probe],
        parent: Lora | None,
    ) -> Examined:
        """All policies on the hold-out prompts, then on what must not be lost, then on probes."""
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
        kl = self._kl(engine, paper.prompts, candidate, parent)
        corrected = self._kept(engine, champions, papers["corrected"], models.judge)
        candidate_reward, candidate_variance = _reward(models, ours)
        champion_reward, champion_variance = _reward(models, theirs)
        measured = replace(
            _before_the_questions(dataset, models.report),
            candidate_variance=candidate_variance,
            champion_variance=champion_variance,
            finite_weights=all(bool(t.isfinite().all()) for t in candidate.tensors.values()),
            kl=kl[0],
            kl_to_base=kl[1],
            candidate=measure_behaviour([_judged(a) for a in ours]),
            champion=measure_behaviour([_judged(a) for a in theirs]),
            wins_over_champion=paper.wins_over(champions),
            wins_over_base=paper.wins_over(BASE),
            must_pass=self._kept(engine, champions, papers["must pass"], models.judge),
            corrected=corrected,
            probes=self._probed(engine, champions, probes),
        )
        outcomes = correction_outcomes(dataset, papers["corrected"], champions, corrected)
        rewards = champion_reward, candidate_reward
        return Examined(measured, paper.prompts, theirs, ours, *rewards, outcomes)

    def _sit(
        self,
        engine: Engine,
        policies: set[int],
        prompts: tuple[PromptExample, ...],
        judge: ScoringModel | None,
        sitting: int = 0,
    ) -> Paper:
        sampling = Sampling(self.settings.gate_tokens, self.settings.gate_temperature)
        answers = {v: self._sample(engine, v, prompts, sampling, sitting).answers for v in policies}
        scores: dict[int, list[float]] = {}
        doubts: dict[int, list[float]] = {}
        if judge is not None:
            for version, written in answers.items():
                found = judge.scores(written)
                scores[version] = found.mean.tolist()
                doubts[version] = found.variance.sqrt().tolist()
        return Paper(prompts, answers, scores, doubts)

    def _kept(
        self, engine: Engine, champions: int, first: Paper, judge: ScoringModel | None
    ) -> Kept | None:
        """What the candidate keeps of what the champion answers well; None without a judge.

        One answer is one draw: who looks lost is asked again by other seeds, and most decide.
        """
        if judge is None:
            return None
        held, suspects = first.held_and_lost(champions)
        prompts = tuple(first.prompts[i] for i in suspects)
        times = [1] * len(prompts)
        for sitting in range(1, SITTINGS) if prompts else ():
            again = self._sit(engine, {champions, CANDIDATE}, prompts, judge, sitting)
            for place in again.held_and_lost(champions)[1]:
                times[place] += 1
        lost = [p for p, count in zip(prompts, times, strict=True) if 2 * count > SITTINGS]
        return Kept(held, tuple(prompt.context.question for prompt in lost))

    def _probed(
        self, engine: Engine, champions: int, probes: Sequence[Probe]
    ) -> dict[ProbeKind, Probed]:
        """Champion and candidate on the same probes; what differs is asked again by other seeds.

        A change counts where most sittings show it, for better and for worse alike: equal policies
        still change as often one way as the other.
        """

        def sit(asked: Sequence[Probe], sitting: int) -> tuple[list[int], list[int]]:
            before, now = (
                self._outcomes(engine, version, asked, sitting)
                for version in (champions, CANDIDATE)
            )
            return before, now

        theirs, ours = sit(probes, 0)
        changes = {i: b - a for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b}
        times = dict.fromkeys(changes, 1)
        for sitting in range(1, SITTINGS) if changes else ():
            again = sit([probes[i] for i in changes], sitting)
            for place, before, now in zip(changes, *again, strict=True):
                times[place] += (now - before) * changes[place] > 0
        steady = {place for place, count in times.items() if 2 * count > SITTINGS}
        return compare_on_probes(probes, theirs, ours, steady)

    def _outcomes(
        self, engine: Engine, version: int, probes: Sequence[Probe], sitting: int
    ) -> list[int]:
        prompts = [prompt for probe in probes for prompt in probe.prompts()]
        sampling = Sampling(self.settings.probe_tokens, self.settings.gate_temperature)
        # Their seeds come after those of the other sittings.
        answers = self._sample(engine, version, prompts, sampling, SITTINGS + sitting).answers
        return probe_outcomes(probes, [answer.response for answer in answers])

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
        sitting: int = 0,
    ) -> Episodes:
        pairs = [(prompt, self.tokens.prompt(prompt.context)) for prompt in prompts]
        seed = 7_000_000 + self.settings.seed * 10_000 + sitting * 1000
        renderer = self.tokens.renderer
        return sample_episodes(engine, version, pairs, renderer, sampling, seed, self.beat)

    @torch.no_grad()
    def _kl(
        self,
        engine: Engine,
        prompts: Sequence[PromptExample],
        candidate: Lora,
        parent: Lora | None,
    ) -> tuple[float, float]:
        """Nats per response to the parent and to the base model, on rollouts of the candidate."""
        temperature = self.settings.temperature
        sampling = Sampling(self.settings.rollout_tokens, temperature)
        drawn = self._sample(engine, CANDIDATE, prompts[: self.settings.episodes], sampling)
        totals = [0.0, 0.0]
        for group in by_length(drawn.tokens, self.settings.micro_batch):
            self.beat()
            batch = TokenBatch.of([drawn.tokens[i] for i in group], self.backbone.device)
            ours = frozen_logprobs(self.backbone, candidate, batch, temperature)
            for place, other in enumerate((parent, None)):
                theirs = frozen_logprobs(self.backbone, other, batch, temperature)
                totals[place] += float(k1(ours, theirs, batch.mask).sum())
        return totals[0] / len(drawn.tokens), totals[1] / len(drawn.tokens)


def _before_the_questions(dataset: Dataset, report: RewardReport | None) -> Measurements:
    """What the data and the reward model tell by themselves."""
    manifest = dataset.manifest
    measured = Measurements(
        trusted_items=len(manifest.corrections) + len(manifest.rankings),
        largest_visitor_share=manifest.largest_visitor_share,
        quarantined_used=quarantined_used(manifest),
    )
    if report is None:
        return measured
    return replace(
        measured,
        reward_accuracy=report.accuracy,
        previous_reward_accuracy=report.previous,
        reward_accuracy_beside=report.beside_previous,
        calibration_error=report.thumb_calibration_error,
        calibration_by_chance=report.thumb_calibration_chance,
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


def _reward(models: RewardModels, answers: Sequence[Answer]) -> tuple[float | None, float | None]:
    """Mean score by the model that PPO maximised, and the mean variance of its members."""
    if models.reward is None:
        return None, None
    found = models.reward.scores(answers)
    return float(found.mean.mean()), float(found.variance.mean())


def _judged(answer: Answer) -> JudgedAnswer:
    context = answer.context
    count = len(answer.token_ids or ())
    return JudgedAnswer(
        context.question, context.passage_texts, answer.response, count, answer.ended
    )
