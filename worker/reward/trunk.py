"""Features that learn: a LoRA adapter of the reward model's own, under a head that stays as it is.

A head fitted on frozen features shows the layers beneath it what it still gets wrong; heads are
fitted again on the features that come out. They share those features, so an ensemble on them
disagrees less than it should. Knows no files but its checkpoints, no policy. Invariant: an epoch
takes every judgement once; resumable between steps.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from worker.adapter_steps import AdapterSteps
from worker.checkpoints import Checkpoints
from worker.data.examples import Examples
from worker.learning_settings import LearningSettings
from worker.reporting import Reporter
from worker.reward.ensemble import Fit, Scaling
from worker.reward.examples import VIEWS, AnswerTable, Judgement, Views, make_views
from worker.reward.features import Features
from worker.reward.likelihood import Likelihood, RewardHeadSettings
from worker.tokens import Tokens


def adapt_features(
    features: Features,
    train: Examples,
    head: RewardHeadSettings,
    settings: LearningSettings,
    checkpoints: Checkpoints,
    report: Reporter,
) -> Features:
    """`features` with their adapter trained on the judgements of the train side."""
    lora = features.lora
    if lora is None:
        raise ValueError("expected features with a fresh adapter, got frozen ones")
    table = AnswerTable.of(train.answers())
    views = make_views(train, table)
    batches = make_batches(views, settings)
    steps = AdapterSteps(
        lora, len(batches), settings.reward_learning_rate, settings.max_grad_norm, checkpoints
    )
    if not steps.left():
        return features
    objective = Objective.of(features, table, views, head)
    share = settings.reward_epochs / len(batches)
    weight = sum(float(objective.likelihood.weights_of(view).sum()) for view in VIEWS)

    def backward(judgements: Sequence[Judgement]) -> float:
        total = 0.0
        for part in chunks(judgements, features.batch):
            report.beat()
            loss = objective(part) / (weight * share)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        return total

    for number in steps.left():
        loss = steps.take(number, partial(backward, batches[number - 1]))
        report.metrics("reward", number, {"loss/reward": loss})
        report.progress("reward", number, len(batches))
    return features


@dataclass(frozen=True)
class Objective:
    """What judgements say against the scores of a fixed head on features that learn."""

    features: Features
    items: Sequence[Tokens]  # of the table's answers
    overlap: Tensor
    scaling: Scaling
    parameters: Mapping[str, Tensor]  # of the head, fitted on the features as they were frozen
    likelihood: Likelihood

    @classmethod
    def of(
        cls, features: Features, table: AnswerTable, views: Views, head: RewardHeadSettings
    ) -> "Objective":
        overlap = table.overlap()
        lm = replace(features, lora=None).of(table.answers)
        scaling = Scaling.of(lm, overlap, head)
        fit = Fit(scaling(lm, overlap), views, head)
        point = fit.member(torch.ones(len(views.customers), dtype=torch.float64))
        items = [features.tokens.answer(answer) for answer in table.answers]
        return cls(features, items, overlap, scaling, point, fit.likelihood)

    def __call__(self, judgements: Sequence[Judgement]) -> Tensor:
        """The weighted sum of their losses, differentiable for the adapter; scalar."""
        rows = torch.tensor(sorted({row for judged in judgements for row in judged.rows}))
        pooled = self.features.pooled([self.items[row] for row in rows.tolist()]).cpu()
        some = self.scaling(pooled, self.overlap[rows]) @ self.parameters["weights"]
        scores = torch.zeros(len(self.items), dtype=torch.float64).index_put((rows,), some)
        counts = {view: torch.zeros_like(self.likelihood.weights_of(view)) for view in VIEWS}
        for judged in judgements:
            counts[judged.view][judged.place] = 1
        return self.likelihood.total(scores, self.parameters, counts)


def make_batches(views: Views, settings: LearningSettings) -> list[list[Judgement]]:
    """Of each epoch in turn: customers in random order, each one's judgements together."""
    judgements = views.judgements()
    batches: list[list[Judgement]] = []
    for epoch in range(settings.reward_epochs):
        order = list(range(len(views.customers)))
        random.Random(f"{settings.seed}:reward:{epoch}").shuffle(order)
        place = {customer: position for position, customer in enumerate(order)}
        batches += chunks(
            sorted(judgements, key=lambda j: (place[j.customer], j.rows)), settings.reward_batch
        )
    return batches


def chunks(judgements: Iterable[Judgement], size: int) -> list[list[Judgement]]:
    """In order, about at most `size` answers each; more only where one judgement is about more."""
    parts: list[list[Judgement]] = []
    rows: set[int] = set()
    for judged in judgements:
        if not parts or len(rows | set(judged.rows)) > size:
            parts.append([])
            rows = set()
        parts[-1].append(judged)
        rows |= set(judged.rows)
    return parts
