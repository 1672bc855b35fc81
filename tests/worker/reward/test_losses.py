"""worker.reward.losses against closed forms."""

import math

import pytest
import torch

from worker.reward.losses import (
    gaussian_penalty,
    ordered_cut_points,
    pair_loss,
    rating_log_probabilities,
    rating_loss,
    thumb_loss,
)


def test_bradley_terry_is_logistic_regression_on_the_difference() -> None:
    chosen, rejected = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0]).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        chosen - rejected, torch.ones(2).double(), reduction="none"
    )
    assert torch.allclose(pair_loss(chosen, rejected), expected)


def test_smoothing_mixes_the_orders() -> None:
    a, b = torch.tensor([0.7]), torch.tensor([0.1])
    mixed = 0.9 * pair_loss(a, b) + 0.1 * pair_loss(b, a)
    assert torch.allclose(pair_loss(a, b, label_smoothing=0.1), mixed)


def test_a_thumb_is_bernoulli() -> None:
    score, scale, leniency = torch.tensor([0.4]), torch.tensor(2.0), torch.tensor([-0.3])
    up = 1 / (1 + math.exp(-(2 * 0.4 - 0.3)))
    loss_up = thumb_loss(score, torch.tensor([1.0]), scale, leniency)
    loss_down = thumb_loss(score, torch.tensor([0.0]), scale, leniency)
    assert loss_up.item() == pytest.approx(-math.log(up), rel=1e-5)
    assert loss_down.item() == pytest.approx(-math.log(1 - up), rel=1e-5)


def test_the_probabilities_of_the_five_ratings_sum_to_one() -> None:
    torch.manual_seed(0)
    scores = torch.randn(50).double() * 6
    cuts = ordered_cut_points(torch.randn(4).double())
    table = rating_log_probabilities(scores, torch.tensor(1.7), torch.randn(50).double(), cuts)
    assert table.shape == (50, 5)
    assert torch.allclose(table.exp().sum(1), torch.ones(50).double(), atol=1e-12)


def test_a_rating_follows_the_cumulative_link() -> None:
    cuts = torch.tensor([-2.0, -1.0, 0.5, 2.0]).double()
    score, one = torch.tensor([0.3]).double(), torch.tensor(1.0).double()
    at_most_3, at_most_2 = torch.sigmoid(cuts[2] - 0.3), torch.sigmoid(cuts[1] - 0.3)
    loss = rating_loss(score, torch.tensor([3]), one, torch.zeros(1).double(), cuts)
    assert loss.item() == pytest.approx(-math.log(at_most_3 - at_most_2))


def test_a_far_tail_keeps_a_finite_gradient() -> None:
    score = torch.tensor([40.0], dtype=torch.float64, requires_grad=True)
    cuts = torch.tensor([-2.0, -1.0, 0.5, 2.0]).double()
    loss = rating_loss(score, torch.tensor([2]), torch.tensor(1.0).double(), torch.zeros(1), cuts)
    loss.sum().backward()
    assert score.grad is not None and score.grad.item() == pytest.approx(1.0, abs=1e-6)


def test_cut_points_ascend_and_a_prior_is_a_square() -> None:
    assert (ordered_cut_points(torch.tensor([3.0, -50.0, 0.0, 9.0])).diff() > 0).all()
    assert gaussian_penalty(torch.tensor([3.0, 4.0]), 5.0).item() == pytest.approx(0.5)
