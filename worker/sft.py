"""Supervised steps on corrections: the adapter learns to write what the experts wrote.

Knows the backbone, no rewards. Invariant: only response tokens are imitated; a step's loss is the
mean over its tokens, whatever its micro-batches. The learning rate falls linearly to 0. Resumable
between steps.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amends.backbones import AnyBackbone
from amends.lora import Lora
from worker.checkpoints import Checkpoints
from worker.learning_settings import LearningSettings
from worker.reporting import LearningFailed, Reporter
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
    optimizer = torch.optim.Adam(lora.parameters(), lr=settings.sft_learning_rate, eps=1e-5)
    batches = _batches(items, settings)
    done = _restore(lora, optimizer, checkpoints)
    for number in range(done + 1, len(batches) + 1):
        left = 1 - (number - 1) / len(batches)
        for group in optimizer.param_groups:
            group["lr"] = settings.sft_learning_rate * left
        loss = _step(backbone, lora, optimizer, batches[number - 1], settings, report)
        report.metrics("sft", number, {"loss/sft": loss})
        report.progress("sft", number, len(batches))
        if number % 5 == 0 or number == len(batches):
            checkpoints.save(number, _state(lora, optimizer))
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
    hidden, _ = backbone.hidden(batch.token_ids, lora)
    states = hidden[batch.rows, batch.before]
    return -backbone.token_logprobs(states, batch.responses).sum()


def _step(
    backbone: AnyBackbone,
    lora: Lora,
    optimizer: torch.optim.Optimizer,
    items: Sequence[Tokens],
    settings: LearningSettings,
    report: Reporter,
) -> float:
    report.beat()
    optimizer.zero_grad(set_to_none=True)
    tokens = sum(len(response) for _, response in items)
    loss = response_nll(backbone, lora, TokenBatch.of(items, backbone.device)) / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(list(lora.tensors.values()), settings.max_grad_norm)
    if not bool(norm.isfinite()):
        raise LearningFailed(f"expected a finite gradient in the supervised steps, got norm {norm}")
    optimizer.step()
    return float(loss.detach())


def _batches(items: Sequence[Tokens], settings: LearningSettings) -> list[list[Tokens]]:
    batches = []
    for epoch in range(settings.sft_epochs):
        order = list(items)
        random.Random(f"{settings.seed}:sft:{epoch}").shuffle(order)
        size = settings.sft_batch
        batches += [order[start : start + size] for start in range(0, len(order), size)]
    return batches


def _state(lora: Lora, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    tensors = {name: tensor.detach() for name, tensor in lora.tensors.items()}
    return {"lora": tensors, "optimizer": optimizer.state_dict()}


def _restore(lora: Lora, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints) -> int:
    kept = checkpoints.newest()
    if kept is None:
        return 0
    done, state = kept
    with torch.no_grad():
        for name, tensor in state["lora"].items():
            lora.tensors[name].copy_(tensor)
    optimizer.load_state_dict(state["optimizer"])
    return done
