"""The bet keeps what it promises: numbers from thousands of simulated candidates, seeded."""

import itertools

import numpy as np
import pytest

from worker.canary.betting import Trials, capital, log_capital, lower_end, upper_end

ERROR_RATE, KINDS = 0.05, 3
ALARM = np.log(KINDS / ERROR_RATE)  # as decision.py shares the error rate among its kinds


def simulated(
    champion: float,
    candidate: float,
    share: float,
    conversations: int,
    candidates: int,
    seed: int,
    per_visitor: int = 1,
) -> Trials:
    """(candidates, conversations) with these rates of bad outcomes.

    Visitors with several conversations have a temper: half of them are always satisfied, and the
    rate of the rest is twice as high, so one's conversations are alike, though the coin is
    thrown for each.
    """
    rng = np.random.default_rng(seed)
    shape = candidates, conversations
    chosen = rng.random(shape) < share
    rate = np.where(chosen, candidate, champion)
    if per_visitor > 1:
        temper = 2.0 * (rng.random((candidates, conversations // per_visitor + 1)) < 0.5)
        rate = rate * np.repeat(temper, per_visitor, axis=1)[:, :conversations]
    bad = rng.random(shape) < rate
    return Trials(bad.astype(float), chosen.astype(float), np.full(shape, share))


def alarms(trials: Trials) -> np.ndarray:
    """After how many conversations each candidate is rolled back; one more than all: never."""
    above = log_capital(trials, 0.0) >= ALARM
    return np.where(above.any(-1), above.argmax(-1) + 1, above.shape[-1] + 1)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_a_candidate_as_good_as_the_champion_is_hardly_ever_rolled_back(share: float) -> None:
    """Looked at after each of 3,000 conversations; each kind of outcome may err in 1.7 %."""
    for seed, rate in enumerate((0.01, 0.1, 0.25, 0.45)):
        for per_visitor in (1, 3):
            found = alarms(simulated(rate, rate, share, 3000, 400, seed, per_visitor))
            assert np.mean(found <= 3000) <= ERROR_RATE / KINDS + 0.014, (rate, per_visitor)


def test_all_three_kinds_together_err_in_at_most_five_of_a_hundred() -> None:
    false = np.zeros(1000, dtype=bool)
    for seed, rate in enumerate((0.3, 0.15, 0.05)):
        false |= alarms(simulated(rate, rate, 0.1, 3000, 1000, 10 + seed)) <= 3000

    assert 0 < false.mean() <= ERROR_RATE


def test_rates_that_drift_for_both_alike_are_no_reason() -> None:
    """A bad evening, a new price list: the champion's rate climbs from 10 to 60 of 100."""
    rng = np.random.default_rng(3)
    chosen = rng.random((1000, 3000)) < 0.1
    bad = rng.random((1000, 3000)) < np.linspace(0.1, 0.6, 3000)
    trials = Trials(bad.astype(float), chosen.astype(float), np.full(bad.shape, 0.1))

    assert np.mean(alarms(trials) <= 3000) <= ERROR_RATE / KINDS + 0.008


@pytest.mark.parametrize(
    ("share", "rate", "harm", "within"),  # as docs/decisions/0027 and docs/canary.md state them
    [
        (0.05, 0.2, 0.1, 5330),
        (0.1, 0.05, 0.1, 1330),
        (0.1, 0.1, 0.1, 1930),
        (0.1, 0.2, 0.1, 2880),
        (0.1, 0.3, 0.1, 3480),
        (0.1, 0.5, 0.1, 3890),
        (0.5, 0.2, 0.1, 1060),
        (0.1, 0.2, 0.2, 810),
    ],
)
def test_eighty_of_a_hundred_are_caught_within_the_stated_number_of_conversations(
    share: float, rate: float, harm: float, within: int
) -> None:
    found = alarms(simulated(rate, rate + harm, share, within, 500, seed=5))

    assert np.mean(found <= within) == pytest.approx(0.8, abs=0.05)


def test_a_candidate_that_is_mostly_bad_is_soon_gone() -> None:
    found = alarms(simulated(0.1, 0.7, 0.1, 2000, 300, seed=6))

    assert np.quantile(found, 0.8) <= 200


def test_the_capital_is_the_product_of_its_bets_and_worth_one_on_average() -> None:
    """All 2^5 courses of five throws of the coin, outcomes given: a martingale."""
    outcomes, share = np.array([1.0, 0.0, 1.0, 1.0, 0.0]), 0.3
    throws = np.array(list(itertools.product((0.0, 1.0), repeat=5)))
    probability = np.prod(np.where(throws > 0, share, 1 - share), axis=1)
    trials = Trials(np.broadcast_to(outcomes, throws.shape), throws, np.full(throws.shape, share))
    after = np.exp(log_capital(trials, 0.0))

    assert probability @ after == pytest.approx(np.ones(5), abs=1e-12)
    assert np.ptp(after[:, -1]) > 0.1  # and something was at stake


def test_the_interval_holds_the_true_harm_at_every_look() -> None:
    wrong = 0
    for seed in range(60):
        trials = simulated(0.2, 0.3, 0.3, 1500, 1, seed)
        one = Trials(trials.bad[0], trials.candidate[0], trials.share[0])
        low, high = lower_end(one, 0.05), upper_end(one, 0.05)
        assert -1 <= low < high <= 1
        wrong += not low <= 0.1 <= high
    assert wrong <= 6  # each end errs in at most one of twenty

    assert high - low < 0.35


def test_an_interval_ends_where_the_capital_reaches_the_alarm() -> None:
    trials = simulated(0.2, 0.5, 0.3, 1000, 1, seed=8)
    one = Trials(trials.bad[0], trials.candidate[0], trials.share[0])
    low = lower_end(one, 0.01)

    assert low > 0
    assert capital(one, low + 1e-4) < 100 <= capital(one, low - 1e-4)


def test_without_conversations_nothing_is_said() -> None:
    none = Trials(np.zeros(0), np.zeros(0), np.zeros(0))

    assert capital(none, 0.0) == 1
    assert lower_end(none, 0.05) == pytest.approx(-1, abs=1e-5)
    assert upper_end(none, 0.05) == pytest.approx(1, abs=1e-5)


def test_a_share_without_a_champion_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        Trials(np.zeros(2), np.ones(2), np.ones(2))
