"""Supervised steps on corrections: the adapter learns to write what the experts wrote.

Knows the backbone, no rewards. Invariant: only response tokens are imitated; a step's loss is the
mean over its tokens.
"""

import random
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from amends.backbones import AnyBackbone
from amends.lora import Lora
from worker.adapter_steps import AdapterSteps
from worker.checkpoints import Checkpoints
from worker.learning_settings import LearningSettings
from worker.reporting import Reporter
from worker.tokens import TokenBatch, Tokens


def train_sft(
    backbone: AnyBackbone,
    start: Lora,
    items: Sequence[Tokens],
    settings: LearningSettings,
    checkpoints: Checkpoints,
    report: Reporter,
) -> Lora:
    """A copy of `start` after sft_epochs passes over `items` (prompt, response)."""
    lora = start.clone()
    batches = _batches(items, settings)
    steps = AdapterSteps(
        lora, len(batches), settings.sft_learning_rate, settings.max_grad_norm, checkpoints
    )
    for number in steps.left():
        report.beat()
        loss = steps.take(number, partial(_backward, backbone, lora, batches[number - 1]))
        report.metrics("sft", number, {"loss/sft": loss})
        report.progress("sft", number, len(batches))
    return lora.clone()


def mean_nll(backbone: AnyBackbone, lora: Lora | None, items: Sequence[Tokens]) -> float:
    """Mean negative log-likelihood per response token, in nats."""
    with torch.no_grad():
        sums = [
            response_nll(backbone, lora, TokenBatch.of([item], backbone.device)) for item in items
        ]
    return sum(float(s) for s in sums) / sum(len(response) for _, response in items)


def response_nll(backbone: AnyBackbone, lora: Lora | None, batch: TokenBatch) -> Tensor:
    """Negative log-likelihood of all response tokens of a batch, summed, in nats."""
    hidden, _ = backbone.hidden_packed(batch.texts, lora)
    states = hidden[batch.before]
    return -backbone.token_logprobs(states, batch.responses).sum()


def _backward(backbone: AnyBackbone, lora: Lora, items: Sequence[Tokens]) -> float:
    tokens = sum(len(response) for _, response in items)
    loss = response_nll(backbone, lora, TokenBatch.of(items, backbone.device)) / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _batches(items: Sequence[Tokens], settings: LearningSettings) -> list[list[Tokens]]:
    batches = []
    for epoch in range(settings.sft_epochs):
        order = list(items)
        random.Random(f"{settings.seed}:sft:{epoch}").shuffle(order)
        size = settings.sft_batch
        batches += [order[start : start + size] for start in range(0, len(order), size)]
    return batches
