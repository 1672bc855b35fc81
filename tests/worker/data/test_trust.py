"""worker.data.trust: caps in numbers."""

import pytest

from tests.worker.data.given import correction, thumb
from worker.data.trust import TrustSettings, weigh


def test_a_visitor_with_many_thumbs_weighs_as_three_items() -> None:
    batch = [thumb("loud", turn) for turn in range(15)] + [thumb("calm", 0)]
    weights = weigh(batch).weights
    loud = sum(weight for name, weight in weights.items() if name.endswith(":loud"))
    assert loud == pytest.approx(3 * weights["thumb:t-calm-0:calm"])


def test_the_cap_does_not_grow_with_the_batch() -> None:
    batch = [thumb(f"loud{i}", turn) for i in range(10) for turn in range(100)]
    weights = weigh([*batch, thumb("calm")], TrustSettings(visitor_weight=1.0)).weights
    assert sum(weights.values()) == pytest.approx(10 * 3 + 1)


def test_visitors_together_weigh_a_fifth_and_none_is_dropped() -> None:
    batch = [correction(i) for i in range(8)] + [thumb(f"v{i}", 0) for i in range(100)]
    trust = weigh(batch)
    assert sum(trust.weights.values()) == pytest.approx(10.0)
    assert trust.expert_shares == {"ann": pytest.approx(0.8)}
    assert trust.largest_visitor_share == pytest.approx(0.002)
    assert min(trust.weights.values()) > 0 and len(trust.weights) == 108
    assert any("visitors together" in note for note in trust.notes)


def test_few_visitors_keep_their_weight() -> None:
    weights = weigh([correction(i) for i in range(8)] + [thumb("v", 0)]).weights
    assert weights["thumb:t-v-0:v"] == 0.5 and weights["correction:x0:ann"] == 1.0


def test_each_experts_share_of_the_weight_is_told_the_largest_first() -> None:
    experts = [correction(0, "ann"), *(correction(i, "bob") for i in range(1, 7))]
    shares = weigh([*experts, thumb("v0"), thumb("v1")]).expert_shares
    assert list(shares.items()) == [("bob", 6 / 8), ("ann", 1 / 8)]


def test_an_empty_batch_has_no_shares() -> None:
    trust = weigh([])
    assert trust.largest_visitor_share == 0 and trust.expert_shares == {}
