"""One PPO update: a rollout in, optimiser steps on the adapter and the value head out.

Knows no sampling and no files. Invariants: the ratio is 1 before the first step; a non-finite
gradient stops the round before it reaches a weight.

Departures from Schulman et al. 2017: advantages are whitened over the whole rollout; epochs stop
early on the approximate KL to the sampling policy.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import ActorCritic
from worker.ppo.advantages import gae, shaped_rewards, whiten
from worker.ppo.imitation import NO_IMITATION, Imitation
from worker.ppo.losses import explained_variance, policy_loss, value_loss
from worker.ppo.rollout import MicroBatch, Rollout
from worker.ppo.team import ALONE, Team
from worker.reporting import LearningFailed

# What a micro-batch adds up over its tokens, and a step over its micro-batches.
NUMBERS = ("tokens", "clipped", "approx_kl", "ratio", "policy_loss", "value_loss")


@dataclass(frozen=True)
class Targets:
    """What one micro-batch is trained towards, both (B, R)."""

    advantages: Tensor
    returns: Tensor


@dataclass
class UpdateStats:
    """Sums over tokens of everything that was logged in the update."""

    tokens: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    first_ratio: float | None = None  # mean over the first step's tokens
    grad_norm: float = 0.0
    imitation: list[float] = field(default_factory=list)  # PPO-ptx's loss, by step

    def add(self, numbers: dict[str, float]) -> None:
        """A step's NUMBERS."""
        if self.first_ratio is None:
            self.first_ratio = numbers["ratio"] / numbers["tokens"]
        self.tokens += numbers["tokens"]
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def mean(self, name: str) -> float:
        return self.sums.get(name, 0.0) / max(self.tokens, 1.0)


def make_optimizer(policy: ActorCritic, settings: LearningSettings) -> torch.optim.Optimizer:
    """Adam on float32 LoRA parameters and the value head, each with its own rate."""
    return torch.optim.Adam(
        [
            {"params": policy.lora.parameters(), "lr": settings.learning_rate},
            {"params": policy.value_head.parameters(), "lr": settings.value_learning_rate},
        ],
        eps=1e-5,
    )


def make_targets(rollout: Rollout, kl_coef: float, settings: LearningSettings) -> list[Targets]:
    """Rewards, GAE and whitening over the whole rollout, per micro-batch."""
    raw = []
    for part in rollout.micro_batches:
        mask = part.batch.mask
        rewards = shaped_rewards(part.scores, part.kl, mask, kl_coef)
        raw.append(gae(rewards, part.values, mask, settings.gamma, settings.gae_lambda))
    masks = [part.batch.mask.bool() for part in rollout.micro_batches]
    flat = torch.cat([a[m] for (a, _), m in zip(raw, masks, strict=True)])
    white = whiten(flat, torch.ones_like(flat))
    if not bool(white.any()):
        raise LearningFailed("all advantages are equal: the scores tell nothing apart")
    targets, start = [], 0
    for (advantages, returns), mask in zip(raw, masks, strict=True):
        count = int(mask.sum())
        whitened = torch.zeros_like(advantages)
        whitened[mask] = white[start : start + count]
        targets.append(Targets(whitened, returns))
        start += count
    return targets


def update_values(rollout: Rollout, targets: list[Targets]) -> dict[str, float]:
    """Numbers about the rollout itself."""
    masks = [part.batch.mask.bool() for part in rollout.micro_batches]
    values = torch.cat([p.values[m] for p, m in zip(rollout.micro_batches, masks, strict=True)])
    returns = torch.cat([t.returns[m] for t, m in zip(targets, masks, strict=True)])
    return {
        "val/explained_variance": explained_variance(values, returns, torch.ones_like(values)),
        "objective/entropy": -sum(float(p.old_logprobs.sum()) for p in rollout.micro_batches)
        / len(rollout.scores),
    }


@dataclass(frozen=True)
class Updater:
    """Takes the optimiser's steps on a policy, this process's part of each."""

    policy: ActorCritic
    optimizer: torch.optim.Optimizer
    settings: LearningSettings
    beat: Callable[[], None]
    imitation: Imitation = NO_IMITATION
    team: Team = ALONE

    def update(self, rollout: Rollout, targets: list[Targets], seed: int) -> UpdateStats:
        """At most ppo_epochs passes of `minibatches` steps each. Raises LearningFailed."""
        settings, order = self.settings, random.Random(seed)
        pairs = list(zip(rollout.micro_batches, targets, strict=True))
        stats = UpdateStats()
        for _ in range(settings.ppo_epochs):
            numbers = list(range(settings.minibatches))
            order.shuffle(numbers)
            before = (stats.tokens, stats.sums.get("approx_kl", 0.0))
            for number in numbers:
                minibatch = [pair for pair in pairs if pair[0].minibatch == number]
                if minibatch:
                    self._step(minibatch, stats, f"{seed}:{stats.steps}")
            moved = stats.sums["approx_kl"] - before[1]
            if moved / (stats.tokens - before[0]) > 1.5 * settings.target_kl:
                break
        if stats.steps > 1 and stats.sums["approx_kl"] == 0.0:
            raise LearningFailed("the steps left every log-probability as it was")
        return stats

    def _step(self, pairs: list[tuple[MicroBatch, Targets]], stats: UpdateStats, seed: str) -> None:
        total = sum(float(part.batch.mask.sum()) for part, _ in pairs)
        self.optimizer.zero_grad(set_to_none=True)
        own = [pair for index, pair in enumerate(pairs) if self.team.own(index)]
        numbers = sum((self._learn(part, target, total) for part, target in own), torch.zeros(6))
        if self.team.own(0):  # once, whatever the number of processes
            self._imitate(stats, seed)
        self.team.add_up([numbers, *self._gradients()])
        stats.add(dict(zip(NUMBERS, numbers.tolist(), strict=True)))
        # Clipped apart: the value head's gradient is of another size and would shrink the policy's.
        norms = [
            float(torch.nn.utils.clip_grad_norm_(group["params"], self.settings.max_grad_norm))
            for group in self.optimizer.param_groups
        ]
        if not all(map(math.isfinite, norms)) or norms[0] == 0.0:
            raise LearningFailed(f"expected finite gradients that are not zero, got norms {norms}")
        self.optimizer.step()
        stats.steps += 1
        stats.grad_norm = norms[0]

    def _learn(self, part: MicroBatch, target: Targets, total: float) -> Tensor:
        """Adds a micro-batch's gradient of a minibatch of `total` tokens; its NUMBERS."""
        self.beat()
        settings, mask = self.settings, part.batch.mask
        now = self.policy.evaluate(part.batch, settings.temperature)
        actor = policy_loss(
            now.logprobs, part.old_logprobs, target.advantages, mask, settings.clip_range
        )
        critic = value_loss(
            now.values, part.values, target.returns, mask, settings.value_clip_range
        )
        loss = (actor.loss + settings.value_coef * critic) / total
        loss.backward()  # type: ignore[no-untyped-call]
        losses = (float(actor.loss.detach()), float(critic.detach()))
        return torch.tensor(
            [float(mask.sum()), actor.clipped, actor.approx_kl, actor.ratio, *losses]
        )

    def _imitate(self, stats: UpdateStats, seed: str) -> None:
        loss = self.imitation.loss(self.policy, seed)
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
            stats.imitation.append(float(loss.detach()))

    def _gradients(self) -> list[Tensor]:
        """One for every parameter: what this process did not touch counts as zero."""
        found = []
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                found.append(parameter.grad)
        return found
