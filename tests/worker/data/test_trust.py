"""worker.data.trust: caps in numbers."""

import pytest

from amends.feedback import Correction, Rater, Thumb
from worker.data.trust import TrustSettings, weigh


def thumb(visitor: str, turn: int, at: float = 0.0) -> Thumb:
    return Thumb(
        conversation_id=f"c-{visitor}",
        turn_id=f"t-{visitor}-{turn}",
        rater=Rater(rater_id=visitor, role="visitor"),
        given_at=at + turn * 100,
        value=1,
    )


def correction(turn: int) -> Correction:
    return Correction(
        conversation_id="c",
        turn_id=f"x{turn}",
        rater=Rater(rater_id="ann", role="expert"),
        given_at=0,
        response="This.",
    )


def test_a_visitor_with_many_thumbs_weighs_as_three_items() -> None:
    batch = [thumb("loud", turn) for turn in range(15)] + [thumb("calm", 0)]
    weights = weigh(batch).weights
    loud = sum(weight for name, weight in weights.items() if name.endswith(":loud"))
    assert loud == pytest.approx(3 * weights["thumb:t-calm-0:calm"])


def test_the_cap_grows_to_one_percent_of_a_large_batch() -> None:
    batch = [thumb("loud", turn) for turn in range(15)]
    batch += [thumb(f"v{i}", 0) for i in range(485)]
    weights = weigh(batch, TrustSettings(visitor_weight=1.0)).weights
    loud = sum(weight for name, weight in weights.items() if name.endswith(":loud"))
    assert loud == pytest.approx(5.0)


def test_visitors_together_weigh_a_fifth_and_none_is_dropped() -> None:
    batch = [correction(i) for i in range(8)] + [thumb(f"v{i}", 0) for i in range(100)]
    trust = weigh(batch)
    assert sum(trust.weights.values()) == pytest.approx(10.0)
    assert trust.expert_share == pytest.approx(0.8)
    assert trust.largest_visitor_share == pytest.approx(0.002)
    assert min(trust.weights.values()) > 0 and not trust.dropped
    assert any("visitors together" in note for note in trust.notes)


def test_few_visitors_keep_their_weight() -> None:
    weights = weigh([correction(i) for i in range(8)] + [thumb("v", 0)]).weights
    assert weights["thumb:t-v-0:v"] == 0.5 and weights["correction:x0:ann"] == 1.0


def test_a_burst_is_set_aside_and_only_it() -> None:
    burst = [
        thumb("bot", 0).model_copy(update={"turn_id": f"b{i}", "given_at": i}) for i in range(21)
    ]
    calm = [thumb("bot", 0).model_copy(update={"turn_id": "later", "given_at": 5000.0})]
    trust = weigh([*burst, *calm, thumb("v", 0)])
    assert {d.reason for d in trust.dropped} == {"burst: too many at once"}
    assert len(trust.dropped) == 21
    assert set(trust.weights) == {"thumb:later:bot", "thumb:t-v-0:v"}


def test_an_empty_batch_has_no_shares() -> None:
    trust = weigh([])
    assert trust.largest_visitor_share == 0 and trust.expert_share == 0
