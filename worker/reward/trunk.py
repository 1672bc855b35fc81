"""Features that learn: a LoRA adapter of the reward model's own, under a head that stays as it is.

A head fitted on frozen features shows the layers beneath it what it still gets wrong; heads are
fitted again on the features that come out. Knows no files but its checkpoints, no policy.
Invariants: a step holds whole customers, and an epoch every customer once; resumable between steps.
"""

import random
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from worker.adapter_steps import AdapterSteps
from worker.checkpoints import Checkpoints
from worker.data.examples import Examples
from worker.learning_settings import LearningSettings
from worker.reporting import Reporter
from worker.reward.examples import AnswerTable, make_views
from worker.reward.features import Features
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.reward_head import Fit, Scaling


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
    views, overlap = make_views(train, table), table.overlap()
    lm = replace(features, lora=None).of(table.answers)
    scaling = Scaling.of(lm, overlap, head)
    fit = Fit(scaling(lm, overlap), views, head)
    point = fit.member(torch.ones(len(views.customers), dtype=torch.float64))
    items = [features.tokens.answer(answer) for answer in table.answers]
    rows_of = views.rows_of_customers()
    batches = _batches(rows_of, settings)
    weight = sum(float(fit.likelihood.weights_of(v).sum()) for v in ("pairs", "thumbs", "ratings"))

    def loss_of(customers: list[int]) -> Tensor:
        rows = torch.unique(torch.cat([rows_of[customer] for customer in customers]))
        pooled = features.pooled([items[row] for row in rows.tolist()]).cpu()
        scores = torch.zeros(len(items), dtype=torch.float64)
        scores = scores.index_put((rows,), scaling(pooled, overlap[rows]) @ point["weights"])
        draws = torch.zeros(len(views.customers), dtype=torch.float64)
        draws[customers] = 1
        share = settings.reward_epochs / len(batches)
        return fit.likelihood.total(scores, point, draws) / (weight * share)

    steps = AdapterSteps(
        lora,
        len(batches),
        settings.reward_learning_rate,
        settings.max_grad_norm,
        checkpoints,
    )
    for number in steps.left():
        report.beat()
        loss = steps.take(number, partial(loss_of, batches[number - 1]))
        report.metrics("reward", number, {"loss/reward": loss})
        report.progress("reward", number, len(batches))
    return features


def _batches(rows_of: list[Tensor], settings: LearningSettings) -> list[list[int]]:
    """Customers in random order, enough of them for a batch of answers."""
    batches: list[list[int]] = []
    for epoch in range(settings.reward_epochs):
        order = list(range(len(rows_of)))
        random.Random(f"{settings.seed}:reward:{epoch}").shuffle(order)
        size = settings.reward_batch
        for customer in order:
            if size >= settings.reward_batch:
                batches.append([])
                size = 0
            batches[-1].append(customer)
            size += len(rows_of[customer])
    return batches
