"""The penalised likelihood of all views of one score: what a reward model is fitted to.

Reads no features: scores come in, one of each answer of the table. Invariant: where there are
pairs, thumbs and ratings together weigh at most `scalar_share` times as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from worker.reward.examples import Views
from worker.reward.losses import (
    gaussian_penalty,
    ordered_cut_points,
    pair_loss,
    rating_loss,
    thumb_loss,
)

RATING_LEVELS = 5


@dataclass(frozen=True)
class RewardHeadSettings:
    """How the head is fitted; priors are in units of the score, whatever the number of features."""

    lm_score_std: float = 1.0  # how far all LM features together may move r a priori, at most
    overlap_score_std: float = 3.0  # the same for the explicit features: fewer, trusted more
    label_smoothing: float = 0.05  # share of expert preferences taken as mistaken
    rater_std: float = 1.0  # spread of raters' leniency, in logits
    scale_std: float = 1.0  # spread of log s, the thumbs' and ratings' sharpness
    scalar_share: float = 0.5  # thumbs and ratings weigh at most this times the pairs
    min_pairs: int = 30  # fewer judged pairs: NotEnoughData
    members: int = 5  # of the ensemble; one alone knows no doubt
    variance_penalty: float = 0.5  # lambda: score = mean - lambda * variance
    clip: float = 5.0  # bound on the score
    seed: int = 0  # of the bootstrap
    max_iterations: int = 300  # of L-BFGS, per member


class Likelihood:
    """Of the judgements in `views`; parameters are one member's, named as `sizes` names them."""

    def __init__(self, views: Views, settings: RewardHeadSettings) -> None:
        self.views, self.settings = views, settings
        pairs = float(views.pair_weight.sum())
        scalars = float(views.thumb_weight.sum() + views.rating_weight.sum())
        self.scalar_factor = 1.0
        if pairs and scalars:
            self.scalar_factor = min(1.0, settings.scalar_share * pairs / scalars)

    def sizes(self) -> dict[str, int]:
        """Of every parameter but the score's own."""
        return {
            "log_scale": 2,  # thumbs, ratings
            "thumb_bias": 1,
            "cut_points": RATING_LEVELS - 1,
            "leniency": len(self.views.raters),  # in units of rater_std; thumbs and ratings alike
        }

    def losses(self, scores: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unweighted losses per item of each view; `scores` (A,) of the table."""
        views = self.views
        scale = parameters["log_scale"].exp()
        leniency = self.settings.rater_std * parameters["leniency"]
        return {
            "pairs": pair_loss(
                scores[views.chosen], scores[views.rejected], self.settings.label_smoothing
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

    def total(
        self,
        scores: Tensor,
        parameters: Mapping[str, Tensor],
        counts: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The weighted sum of all losses; `counts`: how often each item of a view counts (N,)."""
        total = scores.new_zeros(())
        for view, losses in self.losses(scores, parameters).items():
            weights = self.weights_of(view)
            total = total + (losses * (weights if counts is None else weights * counts[view])).sum()
        return total

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Priors; the thumbs' common leniency and the cut points are nearly free."""
        return (
            gaussian_penalty(parameters["log_scale"], self.settings.scale_std)
            + gaussian_penalty(parameters["leniency"], 1.0)
            + gaussian_penalty(parameters["thumb_bias"], 5.0)
            + gaussian_penalty(parameters["cut_points"], 5.0)
        )

    def weights_of(self, view: str) -> Tensor:
        """Item weights of a view, the scalar ones capped against the pairs."""
        if view == "pairs":
            return self.views.pair_weight
        weight = self.views.thumb_weight if view == "thumbs" else self.views.rating_weight
        return weight * self.scalar_factor
