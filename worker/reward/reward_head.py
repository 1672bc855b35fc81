"""The reward model: a linear score on features of answers, fitted together on pairs, thumbs and
ratings.

r = w . z, z the standardised features (language model's, then overlap); a bias would cancel in
pairs and be absorbed by the raters' leniency and by centring. Each member of the ensemble sees
customers drawn with replacement. Knows no model, no files. One simplification:
the aggregate of a conversation is the plain mean of its turns' scores. Invariants: float64,
deterministic for equal input; a score is centred and scaled on reference samples and clipped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from amends.errors import NotEnoughData
from worker.reward.examples import VIEWS, Views
from worker.reward.likelihood import Likelihood, RewardHeadSettings
from worker.reward.losses import gaussian_penalty

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
        mean, variance = centred.mean(0), centred.var(0, unbiased=True)
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
    if settings.members < 4:
        raise ValueError(f"an ensemble needs at least 4 members, got {settings.members}")
    scaling = Scaling.of(lm, overlap, settings)
    fit = Fit(scaling(lm, overlap), views, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    members = [fit.member(_customer_draws(views, generator)) for _ in range(settings.members)]
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
        fitted_on=fit.summary(members),
    )


@dataclass(frozen=True)
class Scaling:
    """Features standardised and multiplied by their prior's deviation (F,), so that every weight
    has a unit prior: without it L-BFGS crawls along the strongly shrunk directions.
    """

    mean: Tensor
    std: Tensor
    prior: Tensor

    @classmethod
    def of(cls, lm: Tensor, overlap: Tensor, settings: RewardHeadSettings) -> "Scaling":
        """A group's features share the group's prior variance."""
        features = torch.cat([lm.double(), overlap.double()], dim=1)
        std = features.std(0)
        groups = (
            (lm.shape[1], settings.lm_score_std),
            (overlap.shape[1], settings.overlap_score_std),
        )
        prior = [
            torch.full((size,), spread / max(size, 1) ** 0.5, dtype=torch.float64)
            for size, spread in groups
        ]
        std = torch.where(std > 1e-6, std, torch.ones_like(std))
        return cls(features.mean(0), std, torch.cat(prior))

    def __call__(self, lm: Tensor, overlap: Tensor) -> Tensor:
        features = torch.cat([lm.double(), overlap.double()], dim=1)
        return (features - self.mean) / self.std * self.prior


def _customer_draws(views: Views, generator: torch.Generator) -> Tensor:
    """How often each customer is drawn, with replacement (C,)."""
    count = len(views.customers)
    drawn = torch.randint(count, (count,), generator=generator)
    return torch.bincount(drawn, minlength=count).double()


class Fit:
    """The minimum of the penalised likelihood for one member; a unit prior on every weight."""

    def __init__(self, features: Tensor, views: Views, settings: RewardHeadSettings) -> None:
        self.features = features
        self.likelihood = Likelihood(views, settings)

    def member(self, draws: Tensor) -> dict[str, Tensor]:
        """Parameters at the minimum, with customers weighted by `draws` (C,)."""
        settings, views = self.likelihood.settings, self.likelihood.views
        counts = {view: draws[customer] for view, customer in views.customer_of.items()}
        sizes = {"weights": self.features.shape[1], **self.likelihood.sizes()}
        parameters = {
            name: torch.zeros(size, dtype=torch.float64, requires_grad=True)
            for name, size in sizes.items()
        }
        optimiser = torch.optim.LBFGS(
            list(parameters.values()),
            max_iter=settings.max_iterations,
            history_size=20,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            scores = self.features @ parameters["weights"]
            total = (
                self.likelihood.total(scores, parameters, counts)
                + self.likelihood.penalty(parameters)
                + gaussian_penalty(parameters["weights"], 1.0)
            )
            torch.autograd.backward(total)
            return total

        step: Callable[[Callable[[], Tensor]], Tensor] = optimiser.step
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the matrices are small: a second thread only waits for the first
        try:
            step(closure)
        finally:
            torch.set_num_threads(threads)
        return {name: value.detach() for name, value in parameters.items()}

    def summary(self, members: list[dict[str, Tensor]]) -> dict[str, float]:
        """Items, total weight and mean training loss of each view, apart."""
        found = {"trusted_pairs": float(self.likelihood.views.trusted_pairs)}
        losses = [self.likelihood.losses(self.features @ m["weights"], m) for m in members]
        for view in VIEWS:
            found[f"{view}/items"] = float(len(losses[0][view]))
            found[f"{view}/weight"] = float(self.likelihood.weights_of(view).sum())
            if len(losses[0][view]):
                found[f"{view}/loss"] = float(torch.stack([x[view].mean() for x in losses]).mean())
        return found
