"""Hyperparameters of a round, each with its unit and what it does.

Knows no environment variables of the rest and no torch. Defaults are what `make bench-loop` and
`make demo` run with on two cores.
"""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class LearningSettings(BaseSettings):
    """Each field is the environment variable AMENDS_LEARN_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_LEARN_", frozen=True, extra="ignore")

    seed: int = Field(0, description="of everything random in a round")
    holdout_share: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="of customers and questions kept for the judge, never trained on; set it "
        "once: with another share, questions change sides",
    )
    feedback_age_s: float = Field(
        0.0,
        ge=0,
        description="younger feedback waits for the next round: time to notice a brigade",
    )
    # Who is believed how much
    visitor_weight: float = Field(
        0.5, gt=0, le=1, description="of one visitor's judgement, before caps; an expert's is 1"
    )
    visitor_items: int = Field(
        3, ge=1, description="a visitor weighs at most this many judgements of a batch"
    )
    anonymous_share: float = Field(
        0.20, gt=0, le=1, description="of the batch's weight, all visitors together; 1: no limit"
    )
    burst_items: int = Field(
        20, ge=1, description="more judgements of one visitor within a minute are set aside"
    )
    brigade_visitors: int = Field(
        20, ge=2, description="fewer new visitors with one opinion are no brigade"
    )
    brigade_window_s: float = Field(
        600.0, gt=0, description="a brigade comes within this time; a small shop's may be longer"
    )
    # Supervised steps on corrections
    sft_epochs: int = Field(2, ge=0, description="passes over the corrections before PPO; 0: none")
    sft_epochs_alone: int = Field(4, ge=0, description="the same in a round without PPO")
    sft_learning_rate: float = Field(
        2e-4, gt=0, description="Adam, LoRA parameters; falls to 0 over the steps"
    )
    sft_batch: int = Field(8, ge=1, description="corrections per step")
    sft_min_gain: float = Field(
        0.25,
        ge=0,
        description="deviations by which they must surely raise PPO's score, or PPO does not start "
        "from them",
    )
    # Reward model
    reward_members: int = Field(
        4, ge=1, description="bootstrapped members of the ensemble; 1: it knows no doubt"
    )
    scalar_share: float = Field(
        0.5, ge=0, description="thumbs and ratings weigh at most this times the pairs"
    )
    rater_std: float = Field(
        1.0,
        gt=0,
        description="spread of raters' leniency, in logits; near 0: all raters are taken as equal",
    )
    reward_layers: tuple[float, ...] = Field(
        (0.5, 0.75, 1.0), description="depths of the hidden states used as features, 1 is the last"
    )
    reward_epochs: int = Field(
        0,
        ge=0,
        description="passes over the judgements that adapt the reward model's features; 0: frozen",
    )
    reward_learning_rate: float = Field(
        2e-4, gt=0, description="Adam, of these passes; falls to 0 over the steps"
    )
    reward_batch: int = Field(32, ge=2, description="answers per step of these passes, at least")
    min_pairs: int = Field(30, ge=0, description="below: no reward model, SFT only")
    missing_eos_penalty: float = Field(
        1.0, ge=0, description="subtracted when a response is cut off"
    )
    length_penalty: float = Field(
        3.0,
        ge=0,
        description="price of as many tokens as the parent's answers have, where answers are as "
        "long as the gate allows; in proportion from the parent's length; 0: tokens are free",
    )
    # PPO
    ppo_updates: int = Field(
        12, ge=1, description="rollouts; each is followed by ppo_epochs passes"
    )
    episodes: int = Field(64, ge=2, description="responses per rollout")
    samples_per_prompt: int = Field(
        4, ge=1, description="of the episodes; each is scored against the others to its prompt"
    )
    rollout_tokens: int = Field(48, ge=4, description="longest sampled response, in tokens")
    temperature: float = Field(0.7, gt=0, description="in rollout, update and reference alike")
    ppo_epochs: int = Field(2, ge=1, le=4, description="passes over a rollout")
    minibatches: int = Field(4, ge=1, description="optimiser steps per epoch")
    micro_batch: int = Field(8, ge=1, description="sequences per forward; memory grows with it")
    learning_rate: float = Field(2e-4, gt=0, description="Adam, LoRA parameters")
    value_learning_rate: float = Field(1e-4, gt=0, description="Adam, value head")
    clip_range: float = Field(0.2, gt=0)
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(0.1, ge=0)
    gamma: float = Field(1.0, gt=0, le=1)
    gae_lambda: float = Field(0.95, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    kl_coef: float = Field(0.05, ge=0, description="first value; adapted towards kl_target")
    kl_target: float = Field(4.0, gt=0, description="nats per response, to the reference")
    kl_horizon_tokens: int = Field(10_000, ge=1)
    kl_cap: float = Field(
        16.0,
        gt=0,
        description="nats per response; more at a rollout ends the round's PPO, one update back",
    )
    target_kl: float = Field(
        0.05, gt=0, description="per token; an epoch beyond 1.5 × it is the last"
    )
    ptx_coef: float = Field(
        0.0,
        ge=0,
        description="weight of the corrections' own loss in PPO's steps (PPO-ptx); 0: off",
    )
    ptx_batch: int = Field(4, ge=1, description="corrections in each of these steps")
    # Gate
    gate_prompts: int = Field(
        72, ge=24, description="hold-out questions asked at the gate, and corrected ones, at most"
    )
    gate_rewordings: int = Field(
        48,
        ge=0,
        description="must-pass questions, and as many corrected ones, asked in other words too: "
        "two answers each",
    )
    gate_tokens: int = Field(
        96,
        ge=8,
        description="longest response at the gate, in tokens; set it as AMENDS_MAX_RESPONSE_TOKENS",
    )
    probe_tokens: int = Field(64, ge=8, description="longest answer to a probe, in tokens")
    gate_temperature: float = Field(
        0.3,
        ge=0,
        description="of both versions' answers at the gate; set it as AMENDS_SERVER_TEMPERATURE",
    )

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.episodes % self.samples_per_prompt:
            raise ValueError(
                f"expected episodes to be a multiple of samples_per_prompt, got {self.episodes} "
                f"and {self.samples_per_prompt}"
            )
        return self
