"""The members of the reward model: each fitted on customers drawn with replacement.

Pairs, thumbs and ratings together, by one penalised likelihood. The customers that a member did not
draw say how strongly the language model's features are shrunk. Knows no files, no answers. One
simplification: the aggregate of a conversation is the plain mean of its turns' scores.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.reward.examples import VIEWS, Views
from worker.reward.likelihood import Likelihood, RewardHeadSettings
from worker.reward.losses import gaussian_penalty

SHRINKAGES = (1.0, 0.3, 0.1, 0.03, 0.01)  # of lm_score_std, tried in turn
Parameters = dict[str, Tensor]  # of a member, by name


@dataclass(frozen=True)
class Ensemble:
    """Members fitted with one shrinkage of the language model's features."""

    shrinkage: float
    scaling: "Scaling"
    fit: "Fit"
    members: list[Parameters]
    left_out_loss: float  # of customers that a member did not draw, mean of the members

    def summary(self) -> dict[str, float]:
        """What the fit tells of its views, and how it was shrunk."""
        found = {**self.fit.summary(self.members), "shrinkage": self.shrinkage}
        if math.isfinite(self.left_out_loss):
            found["left_out/loss"] = self.left_out_loss
        return found


def fit_ensemble(
    lm: Tensor, overlap: Tensor, views: Views, settings: RewardHeadSettings
) -> Ensemble:
    """On features (A, L) and (A, O): shrunk step by step, as long as left-out customers are
    predicted better (out-of-bag estimate, Breiman 1996)."""
    draws = _customer_draws(views, settings)
    best: Ensemble | None = None
    for shrinkage in SHRINKAGES:
        scaling = Scaling.of(lm, overlap, settings, shrinkage)
        fit = Fit(scaling(lm, overlap), views, settings)
        members = [fit.member(drawn) for drawn in draws]
        loss = fit.left_out_loss(members, draws)
        if best is not None and not loss < best.left_out_loss:
            break
        best = Ensemble(shrinkage, scaling, fit, members, loss)
    assert best is not None, "there is a shrinkage to try"
    return best


@dataclass(frozen=True)
class Scaling:
    """Features standardised and multiplied by their prior's deviation (F,), so that every weight
    has a unit prior: without it L-BFGS crawls along the strongly shrunk directions.
    """

    mean: Tensor
    std: Tensor
    prior: Tensor

    @classmethod
    def of(
        cls, lm: Tensor, overlap: Tensor, settings: RewardHeadSettings, shrinkage: float = 1.0
    ) -> "Scaling":
        """A group's features share the group's prior variance."""
        features = torch.cat([lm.double(), overlap.double()], dim=1)
        std = features.std(0)
        groups = (
            (lm.shape[1], shrinkage * settings.lm_score_std),
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


def _customer_draws(views: Views, settings: RewardHeadSettings) -> list[Tensor]:
    """How often each member draws each customer, with replacement, (C,) each. A member alone sees
    everybody: then nobody is left out who could ask for shrinkage."""
    count = len(views.customers)
    if settings.members == 1:
        return [torch.ones(count, dtype=torch.float64)]
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = [torch.randint(count, (count,), generator=generator) for _ in range(settings.members)]
    return [torch.bincount(customers, minlength=count).double() for customers in drawn]


class Fit:
    """The minimum of the penalised likelihood for one member; a unit prior on every weight."""

    def __init__(self, features: Tensor, views: Views, settings: RewardHeadSettings) -> None:
        self.features = features
        self.likelihood = Likelihood(views, settings)

    def member(self, draws: Tensor) -> Parameters:
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

    def left_out_loss(self, members: list[Parameters], draws: list[Tensor]) -> float:
        """Weighted mean loss of the customers that a member did not draw; NaN if all were drawn."""
        likelihood, customer_of = self.likelihood, self.likelihood.views.customer_of
        total, weight = 0.0, 0.0
        for member, drawn in zip(members, draws, strict=True):
            left_out = {view: drawn[who] == 0 for view, who in customer_of.items()}
            scores = self.features @ member["weights"]
            total += float(likelihood.total(scores, member, left_out))
            weight += sum(float(likelihood.weights_of(v)[left_out[v]].sum()) for v in VIEWS)
        return total / weight if weight else float("nan")

    def summary(self, members: list[Parameters]) -> dict[str, float]:
        """Items, total weight and mean training loss of each view, apart."""
        found = {"trusted_pairs": float(self.likelihood.views.trusted_pairs)}
        losses = [self.likelihood.losses(self.features @ m["weights"], m) for m in members]
        for view in VIEWS:
            found[f"{view}/items"] = float(len(losses[0][view]))
            found[f"{view}/weight"] = float(self.likelihood.weights_of(view).sum())
            if len(losses[0][view]):
                found[f"{view}/loss"] = float(torch.stack([x[view].mean() for x in losses]).mean())
        return found
