import math

import pytest

from amends.embedded_store import StoreClient
from amends.errors import InvalidInput
from amends.events import (
    Event,
    Log,
    Metrics,
    Progress,
    RunEvents,
    Sample,
    Samples,
    StageFinished,
    StageStarted,
)


def test_events_read_back_in_order_and_from_where_one_left_off(redis: StoreClient) -> None:
    events = RunEvents(redis)
    published: list[Event] = [
        StageStarted(stage="claim"),
        StageFinished(stage="claim", seconds=0.5),
        Progress(stage="ppo", done=1, total=10),
        Metrics(stage="ppo", step=1, values={"objective/kl": 0.25}),
        Samples(stage="ppo", step=1, texts=(Sample(prompt="p", response="r", score=1.5),)),
        Log(text="done"),
    ]
    for event in published:
        events.publish(1, event)
    read = events.read(1)
    assert [event for _, event in read] == published
    assert events.read(1, after_id=read[2][0]) == read[3:]
    assert events.read(1, after_id=read[-1][0]) == []
    assert events.read(2) == []


def test_a_metric_that_is_no_number_is_still_read(redis: StoreClient) -> None:
    events = RunEvents(redis)
    events.publish(1, Metrics(stage="ppo", step=1, values={"a": math.nan, "b": -math.inf}))
    ((_, event),) = events.read(1)
    assert isinstance(event, Metrics)
    assert math.isnan(event.values["a"])
    assert event.values["b"] == -math.inf


def test_a_malformed_position_is_refused(redis: StoreClient) -> None:
    for after in ("", "abc", "(0", "1-2-3", "-"):
        with pytest.raises(InvalidInput, match="after"):
            RunEvents(redis).read(1, after)
