"""Negative log-likelihoods of the three views of one score r: pairs, thumbs, ratings.

Knows no features and no fitting; every function takes tensors and returns one loss per item, in
nats. Sources: Bradley and Terry 1952 (pairs), McCullagh 1980 (cumulative link), LEARNING: one
latent score, several noisy views. Invariant: the probabilities of all outcomes of one item sum to 1
(label smoothing aside).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus


def pair_loss(chosen: Tensor, rejected: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log P(chosen over rejected) = -log sigmoid(chosen - rejected), smoothed; (N,) from (N,).

    With smoothing e a judgement is taken as mistaken with probability e.
    """
    logit = chosen - rejected
    return -(1 - label_smoothing) * logsigmoid(logit) - label_smoothing * logsigmoid(-logit)


def thumb_loss(scores: Tensor, up: Tensor, scale: Tensor, leniency: Tensor) -> Tensor:
    """-log P(thumb): Bernoulli with logit scale * r + leniency; `up` is 1.0 or 0.0; (N,)."""
    logit = scale * scores + leniency
    return softplus(logit) - up * logit


def rating_log_probabilities(
    scores: Tensor, scale: Tensor, leniency: Tensor, cut_points: Tensor
) -> Tensor:
    """log P(rating = 1..K) under P(rating <= k) = sigmoid(cut_k - scale * r - leniency); (N, K).

    `cut_points` (K - 1,) ascend. Differences of sigmoids are taken in a form that keeps small
    probabilities exact.
    """
    position = (scale * scores + leniency)[:, None]
    below = cut_points[None, :] - position  # (N, K-1): logit of being at or below k
    first = logsigmoid(below[:, :1])
    last = logsigmoid(-below[:, -1:])
    # sigmoid(b) - sigmoid(a) = sigmoid(b) * sigmoid(-a) * (1 - exp(a - b)) for a < b
    a, b = below[:, :-1], below[:, 1:]
    middle = logsigmoid(b) + logsigmoid(-a) + torch.log(-torch.expm1(a - b))
    return torch.cat([first, middle, last], dim=1)


def rating_loss(
    scores: Tensor, ratings: Tensor, scale: Tensor, leniency: Tensor, cut_points: Tensor
) -> Tensor:
    """-log P(rating); `ratings` (N,) are integers 1..K."""
    table = rating_log_probabilities(scores, scale, leniency, cut_points)
    return -table.gather(1, (ratings - 1)[:, None])[:, 0]


def ordered_cut_points(raw: Tensor) -> Tensor:
    """Ascending cut points (K-1,) from free parameters: the first as it is, then steps."""
    steps = softplus(raw[1:]) + 1e-3
    return torch.cat([raw[:1], raw[:1] + torch.cumsum(steps, 0)])


def gaussian_penalty(values: Tensor, std: float) -> Tensor:
    """-log of a zero-mean normal prior, up to its constant; scalar."""
    return 0.5 * (values / std).square().sum()
