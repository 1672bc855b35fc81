"""worker.reward.ensemble: how strongly it shrinks what the language model tells."""

from dataclasses import replace

import pytest
import torch

from tests.worker.reward.simulated import correlation, simulate
from worker.reward.ensemble import SHRINKAGES, Fit, Parameters, Scaling, fit_ensemble
from worker.reward.examples import make_views
from worker.reward.likelihood import RewardHeadSettings

SETTINGS = RewardHeadSettings(members=4)


def test_features_that_tell_nothing_are_shrunk_and_new_answers_judged_better() -> None:
    """400 pairs can be told apart by 600 columns of noise: the left-out customers say no."""
    settings = replace(SETTINGS, lm_score_std=5.0)
    data = simulate(pairs=400, lm_features=2)
    generator = torch.Generator().manual_seed(1)
    noise, fresh = (torch.randn(n, 600, generator=generator).double() for n in (800, 2000))
    overlap = torch.randn(2000, data.overlap.shape[1], generator=generator).double()
    truth = 1.5 * overlap[:, 2] - overlap[:, 7]
    views = make_views(data.examples, data.table)
    found = fit_ensemble(noise, data.overlap, views, settings)
    assert found.shrinkage < 0.1

    def agreement(scaling: Scaling, members: list[Parameters]) -> float:
        weights = torch.stack([member["weights"] for member in members]).mean(0)
        return correlation(scaling(fresh, overlap) @ weights, truth)

    wide = Scaling.of(noise, data.overlap, settings)
    fit = Fit(wide(noise, data.overlap), views, settings)
    everybody = fit.member(torch.ones(len(views.customers), dtype=torch.float64))
    assert agreement(found.scaling, found.members) > agreement(wide, [everybody]) + 0.05


def test_features_that_tell_much_are_shrunk_little() -> None:
    data = simulate(pairs=400, lm_features=4)
    views = make_views(data.examples, data.table)
    found = fit_ensemble(data.lm, data.overlap, views, SETTINGS)
    assert found.shrinkage > 0.1 and found.summary()["shrinkage"] == found.shrinkage


def test_the_loss_of_left_out_customers_is_of_nobody_else() -> None:
    """Two customers, one of them drawn: the other's mean loss, by hand."""
    data = simulate(pairs=101, lm_features=2)  # the last pair is the first customer's second one
    views = make_views(data.examples, data.table)
    fit = Fit(torch.cat([data.lm, data.overlap], 1), views, SETTINGS)
    drawn = torch.ones(len(views.customers), dtype=torch.float64)
    left = views.customers.index("c0")
    drawn[left] = 0
    member = fit.member(drawn)
    losses = fit.likelihood.losses(fit.features @ member["weights"], member)["pairs"]
    of_left = losses[views.customer_of["pairs"] == left]
    assert len(of_left) == 2
    assert fit.left_out_loss([member], [drawn]) == pytest.approx(float(of_left.mean()))


def test_without_left_out_customers_nothing_is_shrunk() -> None:
    """One customer, drawn by every member: no number, and the first shrinkage stands."""
    data = simulate(pairs=1, lm_features=2)
    views = make_views(data.examples, data.table)
    found = fit_ensemble(data.lm, data.overlap, views, SETTINGS)
    assert found.shrinkage == SHRINKAGES[0] and "left_out/loss" not in found.summary()
