"""PPO from the first rollout to the last update, resumable after each.

Knows how a run of updates hangs together; the maths is in kl, advantages, losses. Knows no store,
no feedback, no gate. Invariant: with equal inputs and seed, a resumed training continues as if it
had never stopped (on one machine, same thread count).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from amends.backbones import AnyBackbone
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Sampling
from amends.lora import Lora
from worker.checkpoints import Checkpoints
from worker.data.examples import PromptExample
from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import ActorCritic, ValueHead
from worker.ppo.advantages import gae, shaped_rewards
from worker.ppo.imitation import Imitation
from worker.ppo.kl import AdaptiveKl
from worker.ppo.length import LengthLimit
from worker.ppo.rollout import (
    Episodes,
    Rollout,
    Scorer,
    final_scores,
    record,
    sample_episodes,
)
from worker.ppo.team import ALONE, Team
from worker.ppo.update import Updater, UpdateStats, make_optimizer, make_targets, update_values
from worker.reporting import Reporter
from worker.reward.conduct import repetition
from worker.tokens import AnswerTokens, Tokens


@dataclass(frozen=True)
class PpoParts:
    """What PPO works with; `reference` None is the base model."""

    backbone: AnyBackbone
    tokens: AnswerTokens
    reference: Lora | None
    scorer: Scorer
    prompts: Sequence[PromptExample]
    settings: LearningSettings
    checkpoints: Checkpoints
    report: Reporter
    length: LengthLimit | None = None  # None: tokens are free
    corrections: Sequence[Tokens] = ()  # mixed into the updates where ptx_coef is not 0
    team: Team = ALONE


@dataclass
class PpoState:
    """Everything that changes from update to update."""

    policy: ActorCritic
    optimizer: torch.optim.Optimizer
    kl: AdaptiveKl
    before: Lora  # the last update: what it is taken back to where it went too far
    done: int = 0
    last_kl: float = 0.0
    tokens: float | None = None  # a response's, running mean; None before the first
    capped: bool = False

    @classmethod
    def fresh(cls, backbone: AnyBackbone, lora: Lora, settings: LearningSettings) -> "PpoState":
        """Before the first update; trains `lora` itself."""
        policy = ActorCritic(backbone, lora, ValueHead(backbone.hidden_size, backbone.device))
        kl = AdaptiveKl(settings.kl_coef, settings.kl_target, settings.kl_horizon_tokens)
        return cls(policy, make_optimizer(policy, settings), kl, lora.clone())

    def save(self) -> dict[str, Any]:
        return {
            "lora": {k: v.detach() for k, v in self.policy.lora.tensors.items()},
            "before": {k: v.detach() for k, v in self.before.tensors.items()},
            "value_weight": self.policy.value_head.weight.detach(),
            "value_bias": self.policy.value_head.bias.detach(),
            "optimizer": self.optimizer.state_dict(),
            "kl_coef": self.kl.coef,
            "last_kl": self.last_kl,
            "tokens": self.tokens,
            "capped": self.capped,
        }

    def restore(self, done: int, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self._write(state["lora"])
            for name, tensor in state.get("before", state["lora"]).items():
                self.before.tensors[name].copy_(tensor)
            self.policy.value_head.weight.copy_(state["value_weight"])
            self.policy.value_head.bias.copy_(state["value_bias"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.kl.coef, self.last_kl = state["kl_coef"], state["last_kl"]
        self.done, self.capped, self.tokens = done, state["capped"], state["tokens"]

    def take_back(self) -> None:
        """The policy of before the last update; the optimiser's moments stay, nothing follows."""
        self.capped = True
        with torch.no_grad():
            self._write(self.before.tensors)

    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.policy.lora.tensors[name].copy_(tensor)


def train_ppo(parts: PpoParts, start: Lora) -> PpoState:
    """Improve a copy of `start` by ppo_updates updates, or until one passes the KL cap, which is
    taken back. Raises LearningFailed."""
    settings, backbone = parts.settings, parts.backbone
    state = PpoState.fresh(backbone, start.clone(), settings)
    kept = parts.team.first(parts.checkpoints.newest)
    if kept is not None:
        state.restore(*kept)
    limits = Limits(settings.episodes, settings.episodes, max_positions=backbone.max_positions)
    engine = Engine(backbone, start.shape, parts.tokens.renderer.eos_token_ids, limits)
    while state.done < settings.ppo_updates and not state.capped:
        one_update(parts, state, engine)
        if parts.team.leads:
            parts.checkpoints.save(state.done, state.save())
        # Told only now: what was told is never done again, whatever is killed.
        parts.report.progress("ppo", state.done, settings.ppo_updates)
    return state


def one_update(parts: PpoParts, state: PpoState, engine: Engine) -> None:
    """Roll out, score, learn, report."""
    settings, number = parts.settings, state.done + 1
    episodes = roll_out(parts, state, engine, number)
    raw = parts.team.first(lambda: _paid(parts, state, episodes))
    scores = final_scores(raw, episodes.answers, settings.missing_eos_penalty)
    seed = settings.seed * 1000 + number
    rollout = record(
        episodes,
        state.policy,
        parts.reference,
        scores,
        settings,
        seed,
        parts.report.beat,
        parts.team,
    )
    if number == 1:
        rollout = _warm_up(state, rollout, settings)
    state.done, state.last_kl = number, rollout.kl_per_response
    if state.last_kl > settings.kl_cap:
        state.take_back()
        return
    state.before = state.policy.lora.clone()
    targets = make_targets(rollout, state.kl.coef, settings)
    numbers = update_values(rollout, targets)
    imitation = Imitation(parts.corrections, settings.ptx_coef, settings.ptx_batch)
    updater = Updater(
        state.policy, state.optimizer, settings, parts.report.beat, imitation, parts.team
    )
    stats = updater.update(rollout, targets, seed)
    numbers |= _numbers(rollout, stats, state) | {"objective/token_price": _price(parts, state)}
    parts.report.metrics("ppo", number, numbers)
    if number % 3 == 1 or number == settings.ppo_updates:
        parts.report.samples("ppo", number, episodes.answers[:4], scores.tolist())
    state.kl.update(state.last_kl, rollout.response_tokens)


def _paid(parts: PpoParts, state: PpoState, episodes: Episodes) -> Tensor:
    """(B,): what the scorer gives less what the tokens cost. Priced by a running mean: a rollout's
    own is much of which prompts it has."""
    scores = parts.scorer(episodes.answers)
    if parts.length is None:
        return scores
    before = parts.length.parent_tokens if state.tokens is None else state.tokens
    lengths = [len(response) for _, response in episodes.tokens]
    state.tokens = (before + fmean(lengths)) / 2
    costs = parts.length.costs(lengths, _price(parts, state))
    return scores - costs.to(scores.device)


def _price(parts: PpoParts, state: PpoState) -> float:
    """Of a token now, in deviations of the score."""
    if parts.length is None or state.tokens is None:
        return 0.0
    return parts.length.price(state.tokens, parts.settings.length_penalty)


def roll_out(parts: PpoParts, state: PpoState, engine: Engine, number: int) -> Episodes:
    """Sample `episodes` responses from the pure policy, samples_per_prompt to each prompt."""
    settings = parts.settings
    prompts = [(p, parts.tokens.prompt(p.context)) for p in _turn(parts, number)]
    engine.write(number, state.policy.lora)
    sampling = Sampling(settings.rollout_tokens, settings.temperature)
    seed = (settings.seed * 10_000 + number) * 1000
    episodes = sample_episodes(
        engine,
        number,
        prompts,
        parts.tokens.renderer,
        sampling,
        seed,
        parts.report.beat,
        parts.team,
    )
    engine.unload(number)  # the next update's policy takes its slot
    return episodes


def _turn(parts: PpoParts, number: int) -> list[PromptExample]:
    """The prompts of update `number`: a walk through seeded shuffles of all prompts."""
    settings, count = parts.settings, len(parts.prompts)
    chosen: list[PromptExample] = []
    position = (number - 1) * settings.episodes // settings.samples_per_prompt
    while len(chosen) < settings.episodes:
        lap, offset = divmod(position, count)
        order = list(range(count))
        random.Random(f"{settings.seed}:{lap}").shuffle(order)
        chosen += [parts.prompts[order[offset]]] * settings.samples_per_prompt
        position += 1
    return chosen


def _warm_up(state: PpoState, rollout: Rollout, settings: LearningSettings) -> Rollout:
    """Fit the value head to the first rollout's returns; the rollout with the values it gives
    now."""
    head, returns = state.policy.value_head, []
    for part in rollout.micro_batches:
        mask = part.batch.mask
        rewards = shaped_rewards(part.scores, part.kl, mask, state.kl.coef)
        _, found = gae(rewards, torch.zeros_like(part.values), mask, settings.gamma, 1.0)
        returns.append(found[mask.bool()])
    head.fit(torch.cat([part.states for part in rollout.micro_batches]), torch.cat(returns))
    with torch.no_grad():
        warmed = [
            replace(part, values=part.batch.spread(head(part.states)))
            for part in rollout.micro_batches
        ]
    return replace(rollout, micro_batches=tuple(warmed))


def _numbers(rollout: Rollout, stats: UpdateStats, state: PpoState) -> dict[str, float]:
    answers = rollout.episodes.answers
    count = len(answers)
    imitation = stats.imitation
    return {
        **({"loss/ptx": sum(imitation) / len(imitation)} if imitation else {}),
        "objective/kl": rollout.kl_per_response,
        "objective/scores": float(rollout.scores.mean()),
        "objective/kl_coef": state.kl.coef,
        "policy/approxkl_avg": stats.mean("approx_kl"),
        "policy/clipfrac_avg": stats.mean("clipped"),
        "loss/policy_avg": stats.mean("policy_loss"),
        "loss/value_avg": stats.mean("value_loss"),
        "val/ratio": stats.mean("ratio"),
        "val/first_ratio": stats.first_ratio or 0.0,
        "policy/grad_norm": stats.grad_norm,
        "optimizer_steps": float(stats.steps),
        "response/length": rollout.response_tokens / count,
        "response/ended": sum(a.ended for a in answers) / count,
        "response/repetition": sum(repetition(a.response) for a in answers) / count,
    }
