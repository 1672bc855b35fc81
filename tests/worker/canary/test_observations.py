import random
from typing import get_args

from amends.canary import Kind
from amends.store_client import StoreClient
from worker.canary.comparison import Comparison
from worker.canary.observations import Observations
from worker.canary.outcomes import Observation

TRIED = Comparison(7, 5, began=3, seen=3, shares=((1000.0, 0.1),))


def one(number: int, bad: bool = False) -> Observation:
    """Two at a time began at the same moment."""
    return Observation(
        conversation_id=f"c{number:04d}",
        visitor_id="v",
        began_at=1000.0 + number // 2,
        share=0.1,
        candidate=False,
        answered_by=5,
        bad=dict.fromkeys(get_args(Kind), bad),
    )


def test_they_are_read_as_the_conversations_began(redis: StoreClient) -> None:
    """More than the store keeps in the order in which they were added."""
    observations, wanted = Observations(redis), [one(number) for number in range(600)]
    observations.add(TRIED, random.Random(5).sample(wanted, 600))
    assert observations.read(TRIED) == wanted


def test_what_was_stored_is_never_replaced(redis: StoreClient) -> None:
    observations = Observations(redis)
    observations.add(TRIED, [one(1)])
    observations.add(TRIED, [one(1, bad=True), one(2, bad=True)])
    assert observations.read(TRIED) == [one(1), one(2, bad=True)]
