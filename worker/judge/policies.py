"""The policies that sit an examination, in one engine.

Knows the engine and sampling, no questions' meaning and no judge. Invariant: every policy answers
the same prompts with the same seeds, side by side in one batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from amends.backbones import AnyBackbone
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Sampling
from amends.lora import Lora
from worker.data.examples import Answer, PromptExample
from worker.judge.paper import CANDIDATE, CHAMPION
from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import frozen_logprobs
from worker.ppo.kl import k1
from worker.ppo.rollout import Episodes, sample_side_by_side
from worker.tokens import AnswerTokens, TokenBatch, by_prompt

KEPT_BYTES = 512 << 20  # of prompts' keys and values: some prompts are asked again


@dataclass(frozen=True)
class Policies:
    """The base model, the candidate and the champion, where there is one."""

    engine: Engine
    backbone: AnyBackbone
    tokens: AnswerTokens
    settings: LearningSettings
    candidate: Lora
    beat: Callable[[], None]

    @classmethod
    def loaded(
        cls,
        backbone: AnyBackbone,
        tokens: AnswerTokens,
        settings: LearningSettings,
        candidate: Lora,
        champion: Lora | None,
        beat: Callable[[], None],
    ) -> "Policies":
        limits = Limits(
            max_running=48, max_positions=backbone.max_positions, prefix_cache_bytes=KEPT_BYTES
        )
        engine = Engine(backbone, candidate.shape, tokens.renderer.eos_token_ids, limits)
        engine.write(CANDIDATE, candidate)
        if champion is not None:
            engine.write(CHAMPION, champion)
        return cls(engine, backbone, tokens, settings, candidate, beat)

    def answers(
        self,
        versions: Sequence[int],
        prompts: Sequence[PromptExample],
        max_tokens: int,
        sitting: int = 0,
    ) -> dict[int, tuple[Answer, ...]]:
        """Of each version, one to each prompt; each sitting draws anew."""
        sampling = Sampling(max_tokens, self.settings.gate_temperature)
        drawn = self._drawn(versions, prompts, sampling, sitting)
        return {version: episodes.answers for version, episodes in drawn.items()}

    @torch.no_grad()
    def kl(self, prompts: Sequence[PromptExample], parent: Lora | None) -> tuple[float, float]:
        """Nats per response to the parent and to the base model, on rollouts of the candidate."""
        temperature = self.settings.temperature
        sampling = Sampling(self.settings.rollout_tokens, temperature)
        asked = prompts[: self.settings.episodes]
        drawn = self._drawn([CANDIDATE], asked, sampling)[CANDIDATE]
        totals = [0.0, 0.0]
        for group in by_prompt(drawn.tokens, self.settings.micro_batch):
            self.beat()
            batch = TokenBatch.of([drawn.tokens[i] for i in group], self.backbone.device)
            ours = frozen_logprobs(self.backbone, self.candidate, batch, temperature)
            for place, other in enumerate((parent, None)):
                theirs = frozen_logprobs(self.backbone, other, batch, temperature)
                totals[place] += float(k1(ours, theirs, batch.mask).sum())
        return totals[0] / len(drawn.tokens), totals[1] / len(drawn.tokens)

    def _drawn(
        self,
        versions: Sequence[int],
        prompts: Sequence[PromptExample],
        sampling: Sampling,
        sitting: int = 0,
    ) -> dict[int, Episodes]:
        pairs = [(prompt, self.tokens.prompt(prompt.context)) for prompt in prompts]
        seed = 7_000_000 + self.settings.seed * 10_000 + sitting * 1000
        renderer = self.tokens.renderer
        return sample_side_by_side(
            self.engine, versions, pairs, renderer, sampling, seed, self.beat
        )
