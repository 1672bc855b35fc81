from amends.activity import Activity
from amends.embedded_store import StoreClient


def test_a_visitor_is_remembered_for_five_seconds_and_no_longer(redis: StoreClient) -> None:
    activity = Activity(redis)
    assert not activity.visitors_active()
    activity.mark_visitor()
    assert activity.visitors_active()
    (key,) = redis.keys("*")
    assert 4000 < redis.pttl(key) <= 5000
