"""Which policy PPO starts from: what supervised steps made of the parent, or the parent itself,
where the reward model does not surely like the former better.

Knows the engine and a scorer; no data set, no gate. A parent that PPO has taught to quote can lose
more by imitating short answers than the round's updates win back. Invariant: the choice is kept on
disk, so a round that was killed goes on with it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amends.backbones import AnyBackbone
from amends.durable_file import replace_file
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Sampling
from amends.lora import Lora
from worker.data.examples import Answer, Examples, PromptExample
from worker.data.same_question import question_key
from worker.learning_settings import LearningSettings
from worker.ppo.rollout import Scorer, final_scores, sample_side_by_side
from worker.reward.intervals import Gain, mean_gain
from worker.tokens import AnswerTokens

MIN_UNCORRECTED = 8


@dataclass(frozen=True)
class Writer:
    """Samples answers as PPO's rollouts do, the same prompts with the same seeds each time."""

    backbone: AnyBackbone
    tokens: AnswerTokens
    prompts: Sequence[PromptExample]
    settings: LearningSettings
    beat: Callable[[], None]

    def answers(self, *policies: Lora) -> tuple[tuple[Answer, ...], ...]:
        """Of each policy, one to each prompt."""
        settings, renderer = self.settings, self.tokens.renderer
        limits = Limits(settings.episodes, max_positions=self.backbone.max_positions)
        engine = Engine(self.backbone, policies[0].shape, renderer.eos_token_ids, limits)
        versions = range(1, len(policies) + 1)
        for version, policy in zip(versions, policies, strict=True):
            engine.write(version, policy)
        pairs = [(prompt, self.tokens.prompt(prompt.context)) for prompt in self.prompts]
        sampling = Sampling(settings.rollout_tokens, settings.temperature)
        seed = 9_000_000 + settings.seed
        drawn = sample_side_by_side(engine, versions, pairs, renderer, sampling, seed, self.beat)
        return tuple(drawn[version].answers for version in versions)


def uncorrected(examples: Examples, most: int) -> tuple[PromptExample, ...]:
    """Prompts whose questions no expert answered, for what was imitated is repeated and says
    nothing of the rest; all prompts where these are fewer than MIN_UNCORRECTED."""
    answered = {question_key(c.answer.context.question) for c in examples.corrections}
    found = [p for p in examples.prompts if question_key(p.context.question) not in answered]
    return tuple(found if len(found) >= MIN_UNCORRECTED else examples.prompts)[:most]


def supervised_gain(
    writer: Writer, parent: Lora, supervised: Lora, scorer: Scorer, file: Path
) -> Gain:
    """By how much the score that PPO is paid rises, tokens being free, from the parent's answers to
    those of `supervised`, prompt by prompt; from `file` where it is known already (what an earlier
    program left there has no upper bound, and is measured anew)."""
    known = json.loads(file.read_bytes()) if file.exists() else ()
    if len(known) != len(Gain._fields):
        ours, theirs = writer.answers(supervised, parent)
        both = (*ours, *theirs)
        paid = final_scores(scorer(both), both, writer.settings.missing_eos_penalty)
        gains = paid[: len(ours)] - paid[len(ours) :]
        file.parent.mkdir(parents=True, exist_ok=True)
        known = mean_gain(gains.tolist(), range(len(gains)))
        replace_file(file, json.dumps(known).encode())
    return Gain(*known)
