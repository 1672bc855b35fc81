"""KL, rewards, GAE, whitening and losses against closed forms."""

import math

import pytest
import torch

from worker.ppo.advantages import gae, shaped_rewards, whiten
from worker.ppo.kl import AdaptiveKl, exact_kl, k1, k3
from worker.ppo.losses import explained_variance, policy_loss, value_loss

MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])


def test_kl_equals_closed_form() -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    closed = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert float(exact_kl(p.log() + 3, q.log() - 1)) == pytest.approx(closed, abs=1e-6)
    # Both estimators have the closed form as their mean under p.
    ones = torch.ones(1, 3)
    for estimate in (k1, k3):
        values = estimate(p.log()[None], q.log()[None], ones)[0]
        assert float((p * values).sum()) == pytest.approx(closed, abs=1e-6)
    assert bool((k3(p.log()[None], q.log()[None], ones) >= 0).all())


def test_a_log_ratio_out_of_range_is_clamped_and_padding_is_ignored() -> None:
    logprobs = torch.tensor([[0.0, -1e9, 5.0, math.inf]] * 3)
    found = k1(logprobs, torch.zeros(3, 4), MASK)
    assert found[0, 1] == -20 and found[1, 2] == 0
    assert bool(found[:, :2].isfinite().all())


def test_the_coefficient_follows_the_kl_and_its_error_is_clipped() -> None:
    control = AdaptiveKl(coef=0.1, target=2.0, horizon_tokens=1000)
    control.update(200.0, 500)
    assert control.coef == pytest.approx(0.1 * (1 + 0.2 * 0.5))
    control.update(1.8, 500)
    assert control.coef == pytest.approx(0.11 * (1 - 0.1 * 0.5))


def test_the_score_lands_on_the_last_token_and_nothing_after_it() -> None:
    kl = torch.full((3, 4), 0.5)
    rewards = shaped_rewards(torch.tensor([1.0, 2.0, 3.0]), kl, MASK, kl_coef=0.1)
    expected = [[-0.05, -0.05, -0.05, 0.95], [-0.05, 1.95, 0, 0], [2.95, 0, 0, 0]]
    torch.testing.assert_close(rewards, torch.tensor(expected))


def test_gae_equals_its_double_sum() -> None:
    torch.manual_seed(0)
    rewards, values = torch.randn(3, 4) * MASK, torch.randn(3, 4) * MASK
    gamma, lam = 0.9, 0.8
    advantages, returns = gae(rewards, values, MASK, gamma, lam)
    for row in range(3):
        length = int(MASK[row].sum())
        v = [*values[row, :length].tolist(), 0.0]
        deltas = [float(rewards[row, t]) + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            want = sum((gamma * lam) ** (i - t) * deltas[i] for i in range(t, length))
            assert float(advantages[row, t]) == pytest.approx(want, abs=1e-5)
            assert float(returns[row, t]) == pytest.approx(want + v[t], abs=1e-5)
        assert not bool(advantages[row, length:].any())


def test_values_outside_the_mask_never_leak_in() -> None:
    rewards, values = torch.ones(3, 4) * MASK, torch.full((3, 4), 7.0)
    poisoned = torch.where(MASK.bool(), values, torch.tensor(1e6))
    torch.testing.assert_close(
        gae(rewards, values, MASK, 1.0, 0.95), gae(rewards, poisoned, MASK, 1.0, 0.95)
    )


def test_whitening_survives_one_entry_and_equal_entries() -> None:
    x = torch.randn(3, 4)
    white = whiten(x, MASK)
    inside = white[MASK.bool()]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-6)
    assert float(inside.var()) == pytest.approx(1, abs=1e-4)
    assert not bool(white[~MASK.bool()].any())
    assert not bool(whiten(torch.full((3, 4), 2.0), MASK).any())
    one = torch.zeros(3, 4)
    one[0, 0] = 1
    assert bool((whiten(x, one) == 0).all())


def test_at_ratio_one_ppo_is_the_policy_gradient() -> None:
    logprobs = torch.randn(3, 4).requires_grad_()
    advantages = torch.randn(3, 4)
    found = policy_loss(logprobs, logprobs.detach(), advantages, MASK, 0.2)
    found.loss.backward()
    torch.testing.assert_close(logprobs.grad, -advantages * MASK)
    assert found.clipped == 0 and found.ratio == float(MASK.sum())


def test_a_ratio_beyond_the_clip_gets_no_gradient_in_the_direction_that_pays() -> None:
    old = torch.zeros(1, 2)
    logprobs = torch.tensor([[0.5, 0.5]]).requires_grad_()
    policy_loss(logprobs, old, torch.tensor([[1.0, -1.0]]), torch.ones(1, 2), 0.2).loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad[0, 0] == 0
    assert float(logprobs.grad[0, 1]) == pytest.approx(math.exp(0.5))


def test_value_loss_takes_the_worse_of_plain_and_clipped() -> None:
    values, old, returns = torch.tensor([[2.0]]), torch.tensor([[0.0]]), torch.tensor([[3.0]])
    assert float(value_loss(values, old, returns, torch.ones(1, 1), 0.2)) == pytest.approx(
        0.5 * 2.8**2
    )


def test_explained_variance_of_a_perfect_and_of_a_constant_value() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0]])
    assert explained_variance(returns, returns, torch.ones(1, 3)) == 1
    assert explained_variance(torch.zeros(1, 3), returns, torch.ones(1, 3)) == pytest.approx(0)
    assert explained_variance(returns, torch.ones(1, 3), torch.ones(1, 3)) == 0
