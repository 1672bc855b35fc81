"""A batch of sampled responses with all that was recorded while sampling.

Knows engine, policy and scorer, no optimiser. Invariant: everything of an episode refers to the
same tokens; the micro-batches made here are those of the update, so a forward there repeats the
one here bit for bit (in a team: where all processes compute alike) and the ratio starts at 1.

Shapes: B batch, P prompt tokens, R response tokens, T = P + R, V vocabulary. The index t of a
logprob belongs to token t.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amends.engine.engine import Engine
from amends.engine.sequence import Request, Sampling
from amends.lora import Lora
from amends.prompt import PromptRenderer
from worker.data.examples import Answer, PromptExample
from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import ActorCritic, frozen_logprobs
from worker.ppo.kl import k1
from worker.ppo.team import ALONE, Team
from worker.tokens import TokenBatch, Tokens, by_prompt

SCORE_FLOOR = -5.0  # an empty response's score, and the lowest of any
Scorer = Callable[[Sequence[Answer]], Tensor]  # answers -> scores (B,), clipped and centred
Prompts = Sequence[tuple[PromptExample, tuple[int, ...]]]  # with their tokens
Generated = tuple[tuple[int, ...], bool]  # a response's tokens, and whether it ended by itself


@dataclass(frozen=True)
class Episodes:
    """What was sampled, as tokens and as answers to be scored."""

    tokens: tuple[Tokens, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class MicroBatch:
    """Episodes of one minibatch; every tensor (B, R) but scores (B,) and states (N, H).

    scores: against those of other responses to the same prompt."""

    minibatch: int
    batch: TokenBatch
    old_logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    scores: Tensor
    kl: Tensor
    states: Tensor


@dataclass(frozen=True)
class Rollout:
    episodes: Episodes
    scores: Tensor  # (B,) in order of the episodes, as the scorer gave them
    micro_batches: tuple[MicroBatch, ...]

    @property
    def kl_per_response(self) -> float:
        """Mean over episodes of the summed log-ratio to the reference, in nats."""
        total = sum(float(m.kl.sum()) for m in self.micro_batches)
        return total / len(self.scores)

    @property
    def response_tokens(self) -> int:
        return sum(len(response) for _, response in self.episodes.tokens)


def sample_episodes(
    engine: Engine,
    version: int,
    prompts: Prompts,
    renderer: PromptRenderer,
    sampling: Sampling,
    seed: int,
    beat: Callable[[], None],
    team: Team = ALONE,
) -> Episodes:
    """One response per prompt by `version`; the i-th draws from seed + i, whatever its
    neighbours."""
    asked = team.map(
        lambda own: _generated(engine, own, beat), _requests(version, prompts, sampling, seed)
    )
    return _episodes(prompts, asked, renderer)


def sample_side_by_side(
    engine: Engine,
    versions: Sequence[int],
    prompts: Prompts,
    renderer: PromptRenderer,
    sampling: Sampling,
    seed: int,
    beat: Callable[[], None],
) -> dict[int, Episodes]:
    """What `sample_episodes` gives of each version, all in one batch: a few prompts fill it."""
    each = [_requests(version, prompts, sampling, seed) for version in versions]
    done = _generated(engine, [request for row in zip(*each, strict=True) for request in row], beat)
    return {
        version: _episodes(prompts, done[place :: len(versions)], renderer)
        for place, version in enumerate(versions)
    }


def _requests(version: int, prompts: Prompts, sampling: Sampling, seed: int) -> list[Request]:
    return [
        Request(ids, replace(sampling, seed=seed + offset), version)
        for offset, (_, ids) in enumerate(prompts)
    ]


def _generated(
    engine: Engine, requests: Sequence[Request], beat: Callable[[], None]
) -> list[Generated]:
    return [
        (tuple(done.token_ids), done.finish_reason == "stop")
        for done in engine.generate(requests, beat)
    ]


def _episodes(prompts: Prompts, sampled: Sequence[Generated], renderer: PromptRenderer) -> Episodes:
    rows = list(zip(prompts, sampled, strict=True))
    return Episodes(
        tuple((ids, response) for (_, ids), (response, _) in rows),
        tuple(
            Answer(prompt.context, renderer.decode(response), response, ended)
            for (prompt, _), (response, ended) in rows
        ),
    )


def final_scores(scores: Tensor, answers: Sequence[Answer], missing_eos_penalty: float) -> Tensor:
    """(B,): less where a response was cut off; SCORE_FLOOR where it is empty, nowhere below."""
    adjusted = [
        float(score) - missing_eos_penalty * (not answer.ended) if answer.response else SCORE_FLOOR
        for score, answer in zip(scores, answers, strict=True)
    ]
    return torch.tensor(adjusted).clamp_min(SCORE_FLOOR)


def against_others(scores: Tensor, samples: int) -> Tensor:
    """Scores (B,) less the mean score of the `samples` - 1 other responses to the same prompt.

    Responses to one prompt follow each other. What the others earned says how hard the prompt is,
    better than a value head that has seen a few hundred responses; and as it does not depend on the
    response itself, the gradient's mean stays what it was. Source: leave-one-out baseline, Kool et
    al. 2019; for language models arXiv 2402.14740. One sample: as they are.
    """
    if samples == 1:
        return scores
    groups = scores.view(-1, samples)
    others = (groups.sum(1, keepdim=True) - groups) / (samples - 1)
    return (groups - others).view(-1)


@torch.no_grad()
def record(
    episodes: Episodes,
    policy: ActorCritic,
    reference: Lora | None,
    scores: Tensor,
    settings: LearningSettings,
    seed: int,
    beat: Callable[[], None],
    team: Team = ALONE,
) -> Rollout:
    """The policy's own logprobs and values, the reference's logprobs, the KL between them.

    A prompt goes to a minibatch with all its responses, at random: a step sees the better ones
    beside the worse, and reads the prompt once. Only inside a minibatch are prompts sorted: a step
    must not see long ones only.
    """
    relative = against_others(scores, settings.samples_per_prompt)

    def evaluate(dealt: Sequence[tuple[int, list[int]]]) -> list[MicroBatch]:
        return [micro_batch(minibatch, group) for minibatch, group in dealt]

    def micro_batch(minibatch: int, group: list[int]) -> MicroBatch:
        beat()
        batch = TokenBatch.of([episodes.tokens[i] for i in group], policy.backbone.device)
        now = policy.evaluate(batch, settings.temperature)
        ref = frozen_logprobs(policy.backbone, reference, batch, settings.temperature)
        return MicroBatch(
            minibatch,
            batch,
            now.logprobs,
            ref,
            now.values,
            relative[group].to(batch.mask.device),
            k1(now.logprobs, ref, batch.mask),
            now.states,
        )

    dealt = list(_deal(episodes, settings, seed))
    return Rollout(episodes, scores, tuple(team.map(evaluate, dealt)))


def _deal(
    episodes: Episodes, settings: LearningSettings, seed: int
) -> Iterator[tuple[int, list[int]]]:
    """(minibatch, indices of at most micro_batch episodes), every episode once."""
    size = settings.samples_per_prompt
    to_prompts = [range(start, start + size) for start in range(0, len(episodes.tokens), size)]
    random.Random(seed).shuffle(to_prompts)
    for minibatch in range(settings.minibatches):
        dealt = [i for places in to_prompts[minibatch :: settings.minibatches] for i in places]
        for group in by_prompt([episodes.tokens[i] for i in dealt], settings.micro_batch):
            yield minibatch, [dealt[i] for i in group]
