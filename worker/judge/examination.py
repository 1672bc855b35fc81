"""Candidate, champion and base model sit the same examination: the measurements that the gate
decides on.

Knows the questions and the judge, no engine and no thresholds. Invariants: the judge is not the
model that PPO maximised; what cannot be measured stays None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from amends.backbones import AnyBackbone
from amends.correction_outcomes import CorrectionOutcome
from amends.lora import Lora
from worker.data.dataset import Dataset
from worker.data.examples import Answer, PromptExample
from worker.data.manifest import quarantined_used
from worker.judge.asked import MustPass, corrected_questions, held_out
from worker.judge.behaviour import JudgedAnswer, measure_behaviour
from worker.judge.measurements import Measurements, Probed, ProbeKind
from worker.judge.outcomes import correction_outcomes
from worker.judge.paper import BASE, CANDIDATE, CHAMPION, Found, Paper, Question, Remembered
from worker.judge.policies import Policies
from worker.judge.probe_measures import compare_on_probes, probe_outcomes
from worker.judge.probes import Probe
from worker.judge.rewordings import reworded
from worker.judge.sittings import SITTINGS, steady
from worker.learning_settings import LearningSettings
from worker.reward.intervals import Gain, mean_gain
from worker.reward.training import RewardModels, ScoringModel
from worker.tokens import AnswerTokens


@dataclass(frozen=True)
class Examined:
    """The measurements, and the answers for people to read."""

    measurements: Measurements
    prompts: tuple[PromptExample, ...]
    champion: tuple[Answer, ...]
    candidate: tuple[Answer, ...]
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
        must_pass: MustPass,
        champion: Lora | None,
        candidate: Lora,
        models: RewardModels,
        probes: Sequence[Probe],
        parent: Lora | None,
    ) -> Examined:
        """All policies on the hold-out prompts, then on what must not be lost, then on probes."""
        policies = self._policies(candidate, champion)
        champions = BASE if champion is None else CHAMPION
        unseen = tuple(map(Question, held_out(dataset, self.settings.gate_prompts)))
        paper = self._sit(policies, {BASE, champions, CANDIDATE}, unseen, models.judge)
        corrected = corrected_questions(dataset, self.settings.gate_prompts)
        exactly = self._sit(policies, {champions, CANDIDATE}, corrected, models.judge)
        memory = self._memory(policies, champions, must_pass.prompts, exactly, models.judge)
        kept = {name: remembered.kept for name, remembered in memory.items()}
        ours, theirs = paper.answers[CANDIDATE], paper.answers[champions]
        variances, gain = _opinion(models, ours, theirs, [p.customer for p in paper.prompts])
        kl = policies.kl(paper.prompts, parent)
        measured = replace(
            _before_the_questions(dataset, models),
            candidate_variance=variances[0],
            champion_variance=variances[1],
            reward_gain=gain,
            finite_weights=all(bool(t.isfinite().all()) for t in candidate.tensors.values()),
            kl=kl[0],
            kl_to_base=kl[1],
            candidate=measure_behaviour([_judged(a) for a in ours]),
            champion=measure_behaviour([_judged(a) for a in theirs]),
            base=measure_behaviour([_judged(a) for a in paper.answers[BASE]]),
            wins_over_champion=paper.wins_over(champions),
            wins_over_base=paper.wins_over(BASE),
            must_pass=kept.get("must_pass"),
            must_pass_asked=must_pass.counts,
            corrected=kept.get("corrected"),
            recalled=kept.get("recalled"),
            reworded=kept.get("reworded"),
            probes=self._probed(policies, champions, probes),
        )
        lost = {
            place
            for rule in ("corrected", "recalled")
            if rule in memory
            for place in memory[rule].found.lost
        }
        outcomes = correction_outcomes(dataset, exactly, champions, lost)
        return Examined(measured, paper.prompts, theirs, ours, outcomes)

    def _policies(self, candidate: Lora, champion: Lora | None) -> Policies:
        return Policies.loaded(
            self.backbone, self.tokens, self.settings, candidate, champion, self.beat
        )

    def _sit(
        self,
        policies: Policies,
        versions: set[int],
        questions: Sequence[Question],
        judge: ScoringModel | None,
        sitting: int = 0,
    ) -> Paper:
        if not questions:
            nobody: dict[int, list[float]] = {version: [] for version in versions}
            return Paper((), dict.fromkeys(versions, ()), nobody, nobody)
        prompts = [question.prompt for question in questions]
        answers = policies.answers(sorted(versions), prompts, self.settings.gate_tokens, sitting)
        scores: dict[int, list[float]] = {}
        doubts: dict[int, list[float]] = {}
        if judge is not None:
            found = judge.scores([answer for written in answers.values() for answer in written])
            for place, version in enumerate(answers):
                own = slice(place * len(prompts), (place + 1) * len(prompts))
                scores[version] = found.mean[own].tolist()
                doubts[version] = found.variance[own].sqrt().tolist()
        return Paper(tuple(questions), answers, scores, doubts)

    def _memory(
        self,
        policies: Policies,
        champions: int,
        must_pass: Sequence[PromptExample],
        exactly: Paper,
        judge: ScoringModel | None,
    ) -> dict[str, Remembered]:
        """What must not be lost, in these words and in others, by the measurement's name; nothing
        without a judge. What looks lost is asked again by other seeds. `exactly`: the corrected
        questions as they were asked.
        """
        if judge is None:
            return {}
        must = [*map(Question, must_pass)]
        others = [*self._in_other_words(must), *self._in_other_words(exactly.questions)]

        def sit(asked: Sequence[Question], sitting: int = 0) -> Paper:
            return self._sit(policies, {champions, CANDIDATE}, asked, judge, sitting)

        def steadily(first: Paper, by: Callable[[Paper, int], Found]) -> Remembered:
            found, asked = by(first, champions), first.questions

            def again(places: Sequence[int], sitting: int) -> list[int]:
                paper = sit([asked[p] for p in places], sitting)
                return [places[p] for p in by(paper, champions).lost]

            return Remembered(asked, Found(found.held, steady(found.lost, again)))

        return {
            "must_pass": steadily(sit(must), Paper.answered_or_judged),
            "corrected": steadily(exactly, Paper.judged),
            "recalled": steadily(exactly, Paper.recalled),
            "reworded": steadily(sit(others), Paper.judged_or_recalled),
        }

    def _in_other_words(self, questions: Sequence[Question]) -> list[Question]:
        """Some of them reworded, where the context has room."""
        prompts = [question.prompt for question in questions]
        return [
            replace(questions[place], prompt=prompt)
            for place, prompt in reworded(prompts, self.settings.gate_rewordings)
            if self.tokens.fits(prompt.context)
        ]

    def _probed(
        self, policies: Policies, champions: int, probes: Sequence[Probe]
    ) -> dict[ProbeKind, Probed]:
        """All policies on the same probes; where champion and candidate differ it is asked again by
        other seeds.

        A change counts where most sittings show it, for better and for worse alike: equal policies
        still change as often one way as the other.
        """

        def sit(asked: Sequence[Probe], sitting: int) -> tuple[list[int], list[int]]:
            found = self._outcomes(policies, {champions, CANDIDATE}, asked, sitting)
            return found[champions], found[CANDIDATE]

        first = self._outcomes(policies, {BASE, champions, CANDIDATE}, probes, 0)
        base, theirs, ours = first[BASE], first[champions], first[CANDIDATE]
        changes = {i: b - a for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b}

        def again(places: Sequence[int], sitting: int) -> list[int]:
            rows = zip(places, *sit([probes[p] for p in places], sitting), strict=True)
            return [place for place, a, b in rows if (b - a) * changes[place] > 0]

        return compare_on_probes(probes, base, theirs, ours, steady(changes, again))

    def _outcomes(
        self, policies: Policies, versions: set[int], probes: Sequence[Probe], sitting: int
    ) -> dict[int, list[int]]:
        """Of each version."""
        prompts = [prompt for probe in probes for prompt in probe.prompts()]
        # Their seeds come after those of the other sittings.
        most = self.settings.probe_tokens
        drawn = policies.answers(sorted(versions), prompts, most, SITTINGS + sitting)
        return {
            version: probe_outcomes(probes, [answer.response for answer in answers])
            for version, answers in drawn.items()
        }


def _before_the_questions(dataset: Dataset, models: RewardModels) -> Measurements:
    """What the data and the reward models tell by themselves."""
    manifest, report, judge = dataset.manifest, models.report, models.judge_report
    measured = Measurements(
        trusted_items=len(manifest.corrections) + len(manifest.rankings),
        largest_visitor_share=manifest.largest_visitor_share,
        quarantined_used=quarantined_used(manifest),
        judge_accuracy=None if judge is None else judge.by_question,
    )
    if report is None:
        return measured
    return replace(
        measured,
        reward_accuracy=report.accuracy,
        previous_reward_accuracy=report.previous,
        reward_accuracy_beside=report.beside_previous,
        reward_pairs_changed=report.lost_and_won,
        calibration_error=report.thumb_calibration_error,
        calibration_by_chance=report.thumb_calibration_chance,
    )


def _opinion(
    models: RewardModels,
    ours: Sequence[Answer],
    theirs: Sequence[Answer],
    customers: Sequence[str],
) -> tuple[tuple[float | None, float | None], Gain | None]:
    """The reward model's variances on both policies' answers, and how much better it finds ours."""
    if models.reward is None:
        return (None, None), None
    found, count = models.reward.scores([*ours, *theirs]), len(ours)
    variances = float(found.variance[:count].mean()), float(found.variance[count:].mean())
    return variances, mean_gain((found.mean[:count] - found.mean[count:]).tolist(), customers)


def _judged(answer: Answer) -> JudgedAnswer:
    context = answer.context
    count = len(answer.token_ids or ())
    return JudgedAnswer(
        context.question, context.passage_texts, answer.response, count, answer.ended
    )
