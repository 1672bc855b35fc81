"""worker.reward.reward_head on feedback with a known truth."""

import time
from dataclasses import replace

import pytest
import torch
from statsmodels.miscmodels.ordinal_model import OrderedModel

from amends.errors import NotEnoughData
from tests.worker.reward.simulated import Simulated, correlation, simulate
from worker.data.examples import Examples
from worker.reward.ensemble import Fit
from worker.reward.examples import make_views
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.losses import ordered_cut_points
from worker.reward.reward_head import RewardHead, fit_reward_head

UNCAPPED = RewardHeadSettings(scalar_share=1e9, label_smoothing=0.0)


def fit(data: Simulated, settings: RewardHeadSettings | None = None) -> RewardHead:
    return fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table), settings)


def test_pairs_alone_recover_the_score() -> None:
    data = simulate(pairs=600)
    head = fit(data)
    raw = head.raw(data.lm, data.overlap).mean(0)
    assert correlation(raw, data.truth) > 0.95
    slope = correlation(raw, data.truth) * raw.std() / data.truth.std()
    assert 0.6 < slope < 1.2


def test_thumbs_and_ratings_add_to_few_pairs() -> None:
    data = simulate(pairs=40, thumbs=400, ratings=200, lm_features=40)
    few = fit(replace(data, examples=replace(data.examples, thumbs=(), ratings=())))
    all_views = fit(data, UNCAPPED)
    alone = correlation(few.raw(data.lm, data.overlap).mean(0), data.truth)
    together = correlation(all_views.raw(data.lm, data.overlap).mean(0), data.truth)
    assert together > alone + 0.05 and together > 0.9


def test_ratings_of_conversations_find_the_turns_that_earned_them() -> None:
    data = simulate(pairs=30, ratings=600, lm_features=5)
    head = fit(data, replace(UNCAPPED, label_smoothing=0.05))
    assert correlation(head.raw(data.lm, data.overlap).mean(0), data.truth) > 0.93


def test_known_leniency_and_scale_are_recovered() -> None:
    data = simulate(pairs=500, thumbs=2000, thumb_scale=2.0, lm_features=4)
    views = make_views(data.examples, data.table)
    features = torch.cat([data.lm, data.overlap], 1)
    found = Fit(features, views, UNCAPPED).member(torch.ones(len(views.customers)).double())
    assert found["log_scale"][0].exp().item() == pytest.approx(2.0, rel=0.25)
    truth = torch.tensor([data.leniency[name] for name in views.raters]).double()
    assert correlation(found["leniency"], truth) > 0.9
    both = (found["thumb_bias"] + found["leniency"]).mean().item()
    assert both == pytest.approx(0.4 + truth.mean().item(), abs=0.3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_known_cut_points_leniency_and_scale_of_ratings_are_recovered(seed: int) -> None:
    """2,000 ratings by 20 raters: the scale (2) within a quarter, each cut point (-3, -1, 1, 3)
    within 0.2, each rater's leniency (spread 1) within 0.5."""
    data = simulate(pairs=500, ratings=2000, lm_features=4, seed=seed)
    views = make_views(data.examples, data.table)
    features = torch.cat([data.lm, data.overlap], 1)
    found = Fit(features, views, UNCAPPED).member(torch.ones(len(views.customers)).double())
    assert found["log_scale"][1].exp().item() == pytest.approx(2.0, rel=0.25)
    truth = torch.tensor([data.leniency[name] for name in views.raters]).double()
    # A leniency that all share moves the cut points: only the difference shows in ratings.
    cuts = ordered_cut_points(found["cut_points"]) - found["leniency"].mean() + truth.mean()
    assert cuts.tolist() == pytest.approx([-3.0, -1.0, 1.0, 3.0], abs=0.2)
    gaps = (found["leniency"] - found["leniency"].mean()) - (truth - truth.mean())
    assert gaps.abs().max().item() < 0.5 and correlation(found["leniency"], truth) > 0.95


def test_without_priors_ratings_are_fitted_as_statsmodels_fits_them() -> None:
    """The maximum of the likelihood by another's hand: OrderedModel with a logit link.

    Ratings of weight 10,000 leave the priors nothing to say. One rater, so that the leniency only
    moves the cut points; a pair of an answer and itself, because ratings weigh nothing without
    pairs, and it teaches nothing.
    """
    data = simulate(pairs=1, ratings=600, lm_features=2, raters=1)
    itself = replace(data.examples.pairs[0], rejected=data.examples.pairs[0].chosen)
    ratings = tuple(replace(rating, weight=1e4) for rating in data.examples.ratings)
    views = make_views(Examples(pairs=(itself,), ratings=ratings), data.table)
    features = torch.cat([data.lm, data.overlap], 1)
    settings = RewardHeadSettings(scalar_share=1e9, max_iterations=2000)
    found = Fit(features, views, settings).member(torch.ones(len(views.customers)).double())
    weights = found["log_scale"][1].exp() * found["weights"]
    cuts = ordered_cut_points(found["cut_points"]) - found["leniency"]

    means = torch.stack([views.rated_mean(column) for column in features.T], dim=1)
    model = OrderedModel(views.rating.numpy(), means.numpy(), distr="logit")
    params = model.fit(method="bfgs", maxiter=500, gtol=1e-6, disp=False).params
    assert weights.tolist() == pytest.approx(params[: len(weights)].tolist(), abs=1e-3)
    theirs = model.transform_threshold_params(params)[1:-1]  # the outer two are infinite
    assert cuts.tolist() == pytest.approx(theirs.tolist(), abs=1e-3)


def test_without_other_views_the_head_is_penalised_logistic_regression() -> None:
    data = simulate(pairs=100, lm_features=3)
    views = make_views(data.examples, data.table)
    features = torch.cat([data.lm, data.overlap], 1)
    settings = replace(UNCAPPED, max_iterations=1000)
    found = Fit(features, views, settings).member(torch.ones(len(views.customers)).double())
    w = found["weights"]
    gap = features[views.chosen] - features[views.rejected]
    gradient = -(gap * torch.sigmoid(-(gap @ w))[:, None]).sum(0) + w
    assert gradient.abs().max().item() < 1e-4


def test_raters_who_are_taken_as_equal_are_as_if_all_were_one() -> None:
    """A tiny spread is fitted to the same minimum as no leniency at all."""
    data = simulate(pairs=90, thumbs=150, ratings=90, raters=60, lm_features=60)
    views = make_views(data.examples, data.table)
    features = torch.cat([data.lm, data.overlap], 1)
    everybody = torch.ones(len(views.customers)).double()
    settings = replace(UNCAPPED, rater_std=1e-6, max_iterations=3000)
    equal = Fit(features, views, settings).member(everybody)
    one_rater = replace(
        views,
        raters=("all",),
        thumb_rater=torch.zeros_like(views.thumb_rater),
        rating_rater=torch.zeros_like(views.rating_rater),
    )
    alone = Fit(features, one_rater, settings).member(everybody)
    assert equal["weights"].tolist() == pytest.approx(alone["weights"].tolist(), abs=1e-3)


def test_thumbs_never_outweigh_the_cap() -> None:
    data = simulate(pairs=50, thumbs=500, ratings=50)
    head = fit(data, RewardHeadSettings(scalar_share=0.5))
    scalars = head.fitted_on["thumbs/weight"] + head.fitted_on["ratings/weight"]
    assert scalars == pytest.approx(0.5 * head.fitted_on["pairs/weight"])


def test_where_there_are_no_pairs_nothing_caps_the_others() -> None:
    head = fit(simulate(pairs=0, thumbs=100), RewardHeadSettings(min_pairs=0))
    assert head.fitted_on["thumbs/weight"] == 100 and head.fitted_on["pairs/weight"] == 0


def test_a_member_alone_knows_no_doubt() -> None:
    data = simulate(pairs=300)
    head = fit(data, RewardHeadSettings(members=1)).centred_on(data.lm, data.overlap)
    scores = head.scores(data.lm, data.overlap)
    assert torch.equal(scores.variance, torch.zeros_like(scores.mean))
    assert torch.equal(scores.score, scores.mean.clamp(-5, 5))
    assert correlation(scores.mean, data.truth) > 0.7
    with pytest.raises(ValueError, match="needs a member, got 0"):
        fit(data, RewardHeadSettings(members=0))


def test_too_few_judged_pairs_are_refused() -> None:
    with pytest.raises(NotEnoughData, match="needs 30 judged pairs, got 29"):
        fit(simulate(pairs=29, thumbs=100))


def test_mismatched_answers_do_not_count_as_judged() -> None:
    data = simulate(pairs=60)
    made = tuple(replace(pair, kind="mismatch") for pair in data.examples.pairs[:40])
    examples = replace(data.examples, pairs=(*made, *data.examples.pairs[40:]))
    with pytest.raises(NotEnoughData, match="got 20"):
        fit(replace(data, examples=examples))


def test_fitting_twice_gives_the_same_numbers() -> None:
    data = simulate(pairs=60, thumbs=60, ratings=20)
    assert torch.equal(fit(data).weights, fit(data).weights)


def test_members_differ_and_their_disagreement_lowers_the_score() -> None:
    data = simulate(pairs=60)
    head = fit(data).centred_on(data.lm, data.overlap)
    scores = head.scores(data.lm, data.overlap)
    assert (scores.variance > 0).all()
    expected = (scores.mean - 0.5 * scores.variance).clamp(-5, 5)
    assert torch.allclose(scores.score, expected)


def test_far_from_the_data_members_disagree_more() -> None:
    data = simulate(pairs=60)
    head = fit(data).centred_on(data.lm, data.overlap)
    near = head.scores(data.lm, data.overlap).variance.mean()
    far = head.scores(data.lm * 4, data.overlap * 4).variance.mean()
    assert far > 4 * near


def test_scores_are_centred_on_the_reference_and_clipped() -> None:
    data = simulate(pairs=60)
    head = fit(data).centred_on(data.lm[:50], data.overlap[:50])
    reference = head.scores(data.lm[:50], data.overlap[:50])
    assert reference.mean.mean().abs().item() < 1e-9
    assert head.scores(data.lm * 100, data.overlap * 100).score.abs().max().item() == 5.0
    assert head.finite
    assert not replace(head, weights=head.weights * float("nan")).finite


def test_thumb_probability_rises_with_the_score() -> None:
    data = simulate(pairs=300, thumbs=300)
    head = fit(data)
    probability = head.thumb_probability(data.lm, data.overlap)
    assert ((0 < probability) & (probability < 1)).all()
    assert correlation(probability, data.truth) > 0.8


def test_a_thousand_items_of_six_hundred_features_fit_in_seconds() -> None:
    data = simulate(pairs=400, thumbs=500, ratings=100, lm_features=576)
    started = time.process_time()
    head = fit(data)
    assert time.process_time() - started < 30
    assert head.finite and head.weights.shape == (5, 595)
