"""amends.exclusion_store on a real store: what stands, what was moved, and what a run copies."""

import pytest

from amends.errors import NotFound
from amends.exclusion_store import ExclusionStore
from amends.runs import Runs
from amends.store_client import StoreClient


def test_who_is_excluded_stands_until_lifted_and_every_change_is_a_row(redis: StoreClient) -> None:
    store = ExclusionStore(redis)
    store.exclude("rater", "ann", "operator:eve", "a troll")
    store.exclude("customer", "v1", "operator:eve", "asked to be forgotten")
    store.exclude("rater", "ann", "operator:bob", "again")

    assert [str(item) for item in store.standing()] == ["customer v1", "rater ann"]
    assert store.standing()[1].reason == "a troll"
    store.lift("rater", "ann", "operator:eve", "a mistake")
    assert [str(item) for item in store.standing()] == ["customer v1"]
    assert [(row.action, str(row), row.reason) for row in store.audit()] == [
        ("lifted", "rater ann", "a mistake"),
        ("excluded", "customer v1", "asked to be forgotten"),
        ("excluded", "rater ann", "a troll"),
    ]


def test_what_does_not_stand_cannot_be_lifted(redis: StoreClient) -> None:
    store = ExclusionStore(redis)
    store.exclude("rater", "ann", "eve", "why")
    with pytest.raises(NotFound, match="customer ann is not left out; left out are: rater ann"):
        store.lift("customer", "ann", "eve", "why")
    assert len(store.audit()) == 1


def test_a_run_keeps_the_list_of_the_moment_it_was_created(redis: StoreClient) -> None:
    store, runs = ExclusionStore(redis), Runs(redis)
    store.exclude("rater", 'ann "x": [', "eve", "a troll")
    store.exclude("customer", "v1", "eve", "")
    run = runs.create(requested_by="eve")
    assert run.without == store.standing()
    store.lift("customer", "v1", "eve", "")
    assert len(runs.get(run.run_id).without) == 2
    runs.request_cancel(run.run_id)
    assert [str(item) for item in runs.create(requested_by="eve").without] == ['rater ann "x": [']


def test_a_run_without_exclusions_leaves_nobody_out(redis: StoreClient) -> None:
    assert Runs(redis).create(requested_by="eve").without == ()
