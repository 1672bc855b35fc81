"""The reward model: a linear score on features of answers, said by an ensemble.

r = w . z, z the standardised features (language model's, then overlap); a bias would cancel in
pairs and be absorbed by the raters' leniency and by centring. Knows no model, no files, not how
members are fitted. Invariants: float64, deterministic for equal input; a score is centred and
scaled on reference samples and clipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from amends.errors import NotEnoughData
from worker.reward.ensemble import fit_ensemble
from worker.reward.examples import Views
from worker.reward.likelihood import RewardHeadSettings

_PI_OVER_8 = 0.392699  # logistic-normal integral, MacKay 1992


@dataclass(frozen=True)
class Scores:
    """What the ensemble says about N answers, each tensor (N,), float64."""

    score: Tensor  # mean - lambda * variance, clipped: what PPO maximises
    mean: Tensor  # of the members' centred scores
    variance: Tensor


@dataclass(frozen=True)
class RewardHead:
    """A fitted ensemble of M members over F = L + O features."""

    feature_mean: Tensor  # (F,)
    feature_std: Tensor  # (F,)
    weights: Tensor  # (M, F) on standardised features
    thumb_scale: Tensor  # (M,)
    thumb_bias: Tensor  # (M,) leniency of the average rater
    reference_mean: Tensor  # (M,) raw score on the reference policy's samples
    reference_std: Tensor  # (M,)
    settings: RewardHeadSettings
    fitted_on: Mapping[str, float] = field(default_factory=dict)  # items, weights, loss per view
    own_features: bool = False  # of an adapter of its own: of no use on the frozen ones
    train_pairs: frozenset[str] = frozenset()  # feedback ids that it was fitted on
    holdout_pairs: frozenset[str] = frozenset()  # those that it was held against

    def raw(self, lm: Tensor, overlap: Tensor) -> Tensor:
        """Members' uncentred scores (M, N) of features (N, L) and (N, O)."""
        features = torch.cat([lm.double(), overlap.double()], dim=1)
        return self.weights @ ((features - self.feature_mean) / self.feature_std).T

    def scores(self, lm: Tensor, overlap: Tensor) -> Scores:
        """Centred, scaled, penalised for disagreement (arXiv 2310.02743), clipped."""
        centred = (self.raw(lm, overlap) - self.reference_mean[:, None]) / self.reference_std[
            :, None
        ]
        mean = centred.mean(0)
        variance = centred.var(0, unbiased=True) if len(centred) > 1 else torch.zeros_like(mean)
        clip = self.settings.clip
        score = (mean - self.settings.variance_penalty * variance).clamp(-clip, clip)
        return Scores(score, mean, variance)

    def thumb_probability(self, lm: Tensor, overlap: Tensor) -> Tensor:
        """P(thumb up) by a rater nobody has met (N,): leniency integrated out, members averaged."""
        logit = self.thumb_scale[:, None] * self.raw(lm, overlap) + self.thumb_bias[:, None]
        return torch.sigmoid(logit / (1 + _PI_OVER_8 * self.settings.rater_std**2) ** 0.5).mean(0)

    def centred_on(self, lm: Tensor, overlap: Tensor) -> "RewardHead":
        """The same head with mean 0 and standard deviation 1 on the reference policy's samples."""
        raw = self.raw(lm, overlap)
        if raw.shape[1] < 2:
            raise ValueError(f"expected at least 2 reference samples, got {raw.shape[1]}")
        return replace(self, reference_mean=raw.mean(1), reference_std=raw.std(1).clamp(min=1e-3))

    @property
    def finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return all(
            bool(torch.isfinite(value).all())
            for value in vars(self).values()
            if isinstance(value, Tensor)
        )


def fit_reward_head(
    lm: Tensor, overlap: Tensor, views: Views, settings: RewardHeadSettings | None = None
) -> RewardHead:
    """Fit on features (A, L) and (A, O) of the table that `views` points into.

    Raises NotEnoughData below `min_pairs` judged pairs. Not centred yet: see
    `RewardHead.centred_on`.
    """
    settings = settings or RewardHeadSettings()
    if views.trusted_pairs < settings.min_pairs:
        raise NotEnoughData(
            f"a reward model needs {settings.min_pairs} judged pairs, got {views.trusted_pairs}: "
            "collect more corrections or rankings; until then a round imitates corrections only"
        )
    if settings.members < 1:
        raise ValueError(f"an ensemble needs a member, got {settings.members}")
    ensemble = fit_ensemble(lm, overlap, views, settings)
    members, scaling = ensemble.members, ensemble.scaling
    ones = torch.ones(settings.members, dtype=torch.float64)
    return RewardHead(
        feature_mean=scaling.mean,
        feature_std=scaling.std,
        weights=torch.stack([member["weights"] for member in members]) * scaling.prior,
        thumb_scale=torch.stack([member["log_scale"][0].exp() for member in members]),
        thumb_bias=torch.stack([member["thumb_bias"][0] for member in members]),
        reference_mean=torch.zeros_like(ones),
        reference_std=ones,
        settings=settings,
        fitted_on=ensemble.summary(),
    )
