"""The reward model: a linear score on frozen features, fitted together on pairs, thumbs and
ratings.

r = w . z, z the standardised features (language model's, then overlap); a bias would cancel in
pairs and be absorbed by the raters' leniency and by centring. Each member of the ensemble sees
customers drawn with replacement. Knows no model, no files. Departures from LEARNING.md's sketch:
the aggregate of a conversation is the plain mean of its turns' scores. Invariants: float64,
deterministic for equal input; a score is centred and scaled on reference samples and clipped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from amends.errors import NotEnoughData
from worker.reward.examples import Views
from worker.reward.losses import (
    gaussian_penalty,
    ordered_cut_points,
    pair_loss,
    rating_loss,
    thumb_loss,
)

RATING_LEVELS = 5
_PI_OVER_8 = 0.392699  # logistic-normal integral, MacKay 1992


@dataclass(frozen=True)
class RewardHeadSettings:
    """How the head is fitted; priors are in units of the score, whatever the number of features."""

    lm_score_std: float = 1.0  # how far all LM features together may move r a priori
    overlap_score_std: float = 3.0  # the same for the explicit features: fewer, trusted more
    label_smoothing: float = 0.05  # share of expert preferences taken as mistaken
    rater_std: float = 1.0  # spread of raters' leniency, in logits
    scale_std: float = 1.0  # spread of log s, the thumbs' and ratings' sharpness
    scalar_share: float = 0.5  # thumbs and ratings together weigh at most this times the pairs
    min_pairs: int = 30  # fewer judged pairs: NotEnoughData
    members: int = 5  # of the ensemble, at least 4
    variance_penalty: float = 0.5  # lambda: score = mean - lambda * variance
    clip: float = 5.0  # bound on the score
    seed: int = 0  # of the bootstrap
    max_iterations: int = 300  # of L-BFGS, per member


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
    features = torch.cat([lm.double(), overlap.double()], dim=1)
    mean, std = features.mean(0), features.std(0)
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    prior = _prior_std(lm.shape[1], overlap.shape[1], settings)
    fit = _Fit((features - mean) / std * prior, views, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    members = [fit.member(_customer_draws(views, generator)) for _ in range(settings.members)]
    ones = torch.ones(settings.members, dtype=torch.float64)
    return RewardHead(
        feature_mean=mean,
        feature_std=std,
        weights=torch.stack([member["weights"] for member in members]) * prior,
        thumb_scale=torch.stack([member["log_scale"][0].exp() for member in members]),
        thumb_bias=torch.stack([member["thumb_bias"][0] for member in members]),
        reference_mean=torch.zeros_like(ones),
        reference_std=ones,
        settings=settings,
        fitted_on=fit.summary(members),
    )


def _prior_std(lm: int, overlap: int, settings: RewardHeadSettings) -> Tensor:
    """Prior deviation of each weight (F,): a group's features share the group's variance."""
    return torch.cat(
        [
            torch.full((size,), std / max(size, 1) ** 0.5, dtype=torch.float64)
            for size, std in ((lm, settings.lm_score_std), (overlap, settings.overlap_score_std))
        ]
    )


def _customer_draws(views: Views, generator: torch.Generator) -> Tensor:
    """How often each customer is drawn, with replacement (C,)."""
    count = len(views.customers)
    drawn = torch.randint(count, (count,), generator=generator)
    return torch.bincount(drawn, minlength=count).double()


class _Fit:
    """The penalised likelihood of all views, and its minimum for one member.

    `features` are standardised and multiplied by their prior's deviation, so that every weight has
    a unit prior: without it L-BFGS crawls along the strongly shrunk directions.
    """

    def __init__(self, features: Tensor, views: Views, settings: RewardHeadSettings) -> None:
        self.features, self.views, self.settings = features, views, settings
        scalars = float(views.thumb_weight.sum() + views.rating_weight.sum())
        most = settings.scalar_share * float(views.pair_weight.sum())
        self.scalar_factor = min(1.0, most / scalars) if scalars > 0 else 1.0

    def member(self, draws: Tensor) -> dict[str, Tensor]:
        """Parameters at the minimum, with customers weighted by `draws` (C,)."""
        sizes = {
            "weights": self.features.shape[1],
            "log_scale": 2,  # thumbs, ratings
            "thumb_bias": 1,
            "cut_points": RATING_LEVELS - 1,
            "leniency": len(self.views.raters),  # of a rater, in thumbs and ratings alike
        }
        parameters = {
            name: torch.zeros(size, dtype=torch.float64, requires_grad=True)
            for name, size in sizes.items()
        }
        optimiser = torch.optim.LBFGS(
            list(parameters.values()),
            max_iter=self.settings.max_iterations,
            history_size=20,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            losses = self.losses(parameters)
            total = self.penalty(parameters)
            for name, customer in (
                ("pairs", self.views.pair_customer),
                ("thumbs", self.views.thumb_customer),
                ("ratings", self.views.rating_customer),
            ):
                total = total + (losses[name] * self.weights_of(name) * draws[customer]).sum()
            torch.autograd.backward(total)
            return total

        step: Callable[[Callable[[], Tensor]], Tensor] = optimiser.step
        step(closure)
        return {name: value.detach() for name, value in parameters.items()}

    def losses(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unweighted losses per item of each view."""
        views = self.views
        scores = self.features @ parameters["weights"]
        scale = parameters["log_scale"].exp()
        leniency = parameters["leniency"]
        return {
            "pairs": pair_loss(
                scores[views.chosen],
                scores[views.rejected],
                views.margin,
                self.settings.label_smoothing,
            ),
            "thumbs": thumb_loss(
                scores[views.thumb],
                views.thumb_up,
                scale[0],
                parameters["thumb_bias"] + leniency[views.thumb_rater],
            ),
            "ratings": rating_loss(
                views.rated_mean(scores),
                views.rating,
                scale[1],
                leniency[views.rating_rater],
                ordered_cut_points(parameters["cut_points"]),
            ),
        }

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Priors; the thumbs' common leniency and the cut points are nearly free."""
        return (
            gaussian_penalty(parameters["weights"], 1.0)
            + gaussian_penalty(parameters["log_scale"], self.settings.scale_std)
            + gaussian_penalty(parameters["leniency"], self.settings.rater_std)
            + gaussian_penalty(parameters["thumb_bias"], 5.0)
            + gaussian_penalty(parameters["cut_points"], 5.0)
        )

    def weights_of(self, view: str) -> Tensor:
        """Item weights of a view, the scalar ones capped against the pairs."""
        if view == "pairs":
            return self.views.pair_weight
        weight = self.views.thumb_weight if view == "thumbs" else self.views.rating_weight
        return weight * self.scalar_factor

    def summary(self, members: list[dict[str, Tensor]]) -> dict[str, float]:
        """Items, total weight and mean training loss of each view, apart."""
        found: dict[str, float] = {"trusted_pairs": float(self.views.trusted_pairs)}
        losses = [self.losses(member) for member in members]
        for view in ("pairs", "thumbs", "ratings"):
            found[f"{view}/items"] = float(len(losses[0][view]))
            found[f"{view}/weight"] = float(self.weights_of(view).sum())
            if len(losses[0][view]):
                found[f"{view}/loss"] = float(torch.stack([x[view].mean() for x in losses]).mean())
        return found
