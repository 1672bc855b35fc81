"""Scripted policies sit the real examination: measurements, probes, a judge and a reward model that
are fitted on what experts prefer, and the gate with its default thresholds.

Only the texts are written by hand; what is beyond the longest answer is cut off, and then it has
not ended. The KL is not scripted: it is measured on what the adapters themselves write.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.lora import Lora
from amends.prompt import PromptRenderer
from tests.tiny_model import make_tiny_model
from tests.worker.hand_made import adapter, dataset_of
from tests.worker.judge.outdoor_shop import (
    ASKED,
    BASE_MODEL,
    JUDGED,
    LEARNT,
    MUST_PASS,
    PROBES,
    SERVED,
    Fact,
    Policy,
    other,
    rambles,
    right,
    unable,
    wrong,
)
from worker.data.dataset import Dataset, DatasetSettings
from worker.data.examples import (
    Answer,
    CorrectionExample,
    Examples,
    PairExample,
    PromptExample,
)
from worker.data.made_pairs import made_pairs
from worker.judge.asked import MustPass
from worker.judge.examination import Examiner
from worker.judge.gate import GateVerdict, judge_candidate
from worker.judge.paper import BASE, CANDIDATE, CHAMPION
from worker.judge.policies import Policies
from worker.learning_settings import LearningSettings
from worker.ppo.rollout import Episodes
from worker.reward.features import Features
from worker.reward.training import RewardModels, train_reward_models
from worker.tokens import AnswerTokens

CONTEXT_TOKENS = 1500  # bytes: the tiny model has no words
MADE_WEIGHT = DatasetSettings().made_weight
SETTINGS = LearningSettings(
    reward_layers=(1.0,),
    episodes=8,
    samples_per_prompt=1,
    rollout_tokens=16,
    micro_batch=16,
    gate_prompts=48,
    gate_rewordings=12,
    gate_tokens=200,
    probe_tokens=400,
)


def dataset(chosen: Callable[[Fact], str] = right) -> Dataset:
    """Experts prefer `chosen` to whatever the served model said."""
    train, holdout = _side("t", LEARNT, LEARNT, chosen), _side("h", JUDGED, ASKED, chosen)
    return dataset_of(train, holdout)


def _side(
    side: str, judged: tuple[Fact, ...], asked: tuple[Fact, ...], chosen: Callable[[Fact], str]
) -> Examples:
    def answer(fact: Fact, text: str) -> Answer:
        return Answer(fact.context, text, None, ended=True)

    pairs, corrections = [], []
    for place, fact in enumerate(judged):
        who = (f"correction:{side}{place}", fact.question, "expert", 1.0)
        served = (wrong, unable, rambles, other)[place % 4](fact)
        better = answer(fact, chosen(fact))
        pairs.append(PairExample(*who, "correction", better, answer(fact, served)))
        corrections.append(CorrectionExample(*who, better))
    pairs += made_pairs(corrections, MADE_WEIGHT)
    prompts = tuple(prompt(fact) for fact in asked)
    return Examples(tuple(pairs), corrections=tuple(corrections), prompts=prompts)


def prompt(fact: Fact) -> PromptExample:
    return PromptExample(fact.context, fact.question, "", fill_up=False)


@dataclass(frozen=True)
class ScriptedExaminer(Examiner):
    """The seam where texts are written: all that is done with them is the examiner's own."""

    scripts: Mapping[int, Policy]

    def _policies(self, candidate: Lora, champion: Lora | None) -> Policies:
        loaded = super()._policies(candidate, champion)
        return ScriptedPolicies(**vars(loaded), scripts=self.scripts)


@dataclass(frozen=True)
class ScriptedPolicies(Policies):
    """Answers are scripted; the rollouts of the KL are not."""

    scripts: Mapping[int, Policy]

    def answers(
        self,
        versions: Sequence[int],
        prompts: Sequence[PromptExample],
        max_tokens: int,
        sitting: int = 0,
    ) -> dict[int, tuple[Answer, ...]]:
        return {
            version: written(self.scripts[version], self.tokens, prompts, max_tokens).answers
            for version in versions
        }


def written(
    policy: Policy, tokens: AnswerTokens, prompts: Sequence[PromptExample], most: int
) -> Episodes:
    """What the policy says, cut after so many tokens."""
    ids, answers = [], []
    for one in prompts:
        whole = tokens.renderer.encode_response(policy(one.context))
        kept, ended = whole[:most], len(whole) <= most
        ids.append((tokens.prompt(one.context), kept))
        answers.append(Answer(one.context, tokens.renderer.decode(kept), kept, ended))
    return Episodes(tuple(ids), tuple(answers))


@dataclass(frozen=True)
class Shop:
    """A tiny model with adapters, and the two heads fitted on what experts prefer. `champion` None:
    the base model is served; else it says what `served` says."""

    backbone: Backbone
    tokens: AnswerTokens
    dataset: Dataset
    models: RewardModels
    champion: Lora | None
    served: Policy

    @classmethod
    def opened(
        cls,
        folder: Path,
        chosen: Callable[[Fact], str] = right,
        served: Policy | None = SERVED,
    ) -> "Shop":
        where = make_tiny_model(folder / "model")
        backbone = Backbone(load_causal_lm(where, torch.float32), CONTEXT_TOKENS)
        renderer = PromptRenderer(load_tokenizer(where), CONTEXT_TOKENS, SETTINGS.probe_tokens)
        tokens, data = AnswerTokens(renderer, "Amble"), dataset(chosen)
        usual = data.holdout.prompts  # on what it was corrected on it is better than usual
        samples = written(served or BASE_MODEL, tokens, usual, SETTINGS.gate_tokens)
        features = Features(
            backbone, tokens, SETTINGS.reward_layers, SETTINGS.micro_batch, lambda: None
        )
        models = train_reward_models(
            data, samples.answers, features, None, SETTINGS, folder, None, with_reward=True
        )
        champion = None if served is None else adapter(backbone, seed=1)
        return cls(backbone, tokens, data, models, champion, served or BASE_MODEL)

    def verdict(
        self,
        candidate: Policy,
        lora: Lora | None = None,
        models: RewardModels | None = None,
        settings: LearningSettings = SETTINGS,
    ) -> GateVerdict:
        """Of the gate with its default thresholds."""
        scripts = {BASE: BASE_MODEL, CHAMPION: self.served, CANDIDATE: candidate}
        examiner = ScriptedExaminer(self.backbone, self.tokens, settings, lambda: None, scripts)
        examined = examiner.examine(
            self.dataset,
            MustPass(tuple(prompt(fact) for fact in MUST_PASS)),
            self.champion,
            lora or adapter(self.backbone, seed=2),
            models or self.models,
            PROBES,
            self.champion,
        )
        return judge_candidate(examined.measurements)
