"""A reward model of ours, fitted on the train side, says what it thinks of every answer.

The product's own parts, put together as a round does. Knows no measures.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from judgements.kept import Kept, digest, source_of
from judgements.measures import Array

import amends.backbone
import amends.lora
import worker.adapter_steps
import worker.reward.conduct
import worker.reward.ensemble
import worker.reward.examples
import worker.reward.features
import worker.reward.likelihood
import worker.reward.losses
import worker.reward.overlap
import worker.reward.reward_head
import worker.reward.trunk
import worker.tokens
from amends.backbone import Backbone
from amends.lora import Lora
from worker.checkpoints import Checkpoints
from worker.data.examples import Examples
from worker.learning_settings import LearningSettings
from worker.ppo.followers import Silent
from worker.reward.examples import AnswerTable, make_views
from worker.reward.features import Features
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.reward_head import fit_reward_head
from worker.reward.trunk import adapt_features
from worker.tokens import AnswerTokens

READING = (amends.backbone, worker.tokens, worker.reward.features)
LEARNING = (
    amends.lora,
    worker.adapter_steps,
    worker.reward.ensemble,
    worker.reward.examples,
    worker.reward.likelihood,
    worker.reward.losses,
    worker.reward.overlap,
    worker.reward.conduct,
    worker.reward.reward_head,
    worker.reward.trunk,
)


@dataclass(frozen=True)
class Configuration:
    """Of every reward model here; declared before the run."""

    head: RewardHeadSettings
    learning: LearningSettings
    rank: int


@dataclass(frozen=True)
class Opinion:
    """Of N answers: score, and probability of a thumb up, each (N,)."""

    score: Array
    thumb_up: Array


class Trials:
    """Of one data set, whose features are computed once."""

    def __init__(
        self,
        examples: Examples,
        backbone: Backbone,
        tokens: AnswerTokens,
        configuration: Configuration,
        kept: Kept,
        base_hash: str,
    ) -> None:
        self.table = AnswerTable.of(examples.answers())
        self.items = [tokens.answer(answer) for answer in self.table.answers]
        self.overlap = self.table.overlap()
        self._configuration, self._kept = configuration, kept
        learning = configuration.learning
        self._features = Features(
            backbone, tokens, learning.reward_layers, learning.micro_batch, lambda: None
        )
        self._content = digest(base_hash, json.dumps(self.items), source_of(*READING))

    def frozen(self, train: Examples) -> Opinion:
        """Heads on the base model's features."""
        return self._fitted(train, self.table, self._lm(), self.overlap)

    def adapted(self, train: Examples, test: Examples, seed: int) -> Opinion:
        """Heads on features that an adapter of the reward model's own has learnt."""
        table = AnswerTable.of([*train.answers(), *test.answers()])
        rows = self.table.rows(table.answers)
        configuration = self._configuration
        learning = configuration.learning.model_copy(update={"seed": seed})

        def learn(folder: Path) -> Array:
            shape = self._features.backbone.lora_shape(configuration.rank, 2 * configuration.rank)
            fresh = replace(self._features, lora=Lora.fresh(shape, seed))
            learnt = adapt_features(
                fresh, train, configuration.head, learning, Checkpoints(folder), Silent()
            )
            return learnt.of(table.answers).numpy()

        found = self._kept.array(
            learn,
            content=self._content,
            train=digest(repr(train), repr(test), source_of(*LEARNING)),
            learning=learning.model_dump(),
            head=asdict(configuration.head),
            rank=configuration.rank,
        )
        opinion = self._fitted(train, table, torch.from_numpy(found), self.overlap[rows])
        whole = np.full((2, len(self.table.answers)), np.nan)
        whole[:, rows.numpy()] = opinion.score, opinion.thumb_up
        return Opinion(*whole)

    def _fitted(
        self, train: Examples, table: AnswerTable, lm: torch.Tensor, overlap: torch.Tensor
    ) -> Opinion:
        head = fit_reward_head(lm, overlap, make_views(train, table), self._configuration.head)
        scores = head.centred_on(lm, overlap).scores(lm, overlap)
        return Opinion(scores.mean.numpy(), head.thumb_probability(lm, overlap).numpy())

    def _lm(self) -> torch.Tensor:
        kept = self._kept.array(
            lambda _: self._features.of(self.table.answers).numpy(),
            content=self._content,
            layers=self._features.layers,
        )
        return torch.from_numpy(kept)
