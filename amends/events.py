"""What a run reports while it happens, and the channel it travels on.

The only module that spells this key. Knows no training and no page. Invariant: an event that was
read is equal to the one published, in the order of publication; only the newest of a run are
kept, so events are news, never the record of a run.

    amends:run:{id}:events   stream   field `event`: Event as JSON
"""

import re
from typing import Annotated, Literal, cast

from pydantic import ConfigDict, Field, TypeAdapter

from amends.errors import InvalidInput
from amends.record import Record
from amends.store_client import StoreClient

Stage = Literal["claim", "dataset", "sft", "reward", "ppo", "gate", "publish"]

_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
_KEPT = 10_000
_PAGE = 1000


class StageStarted(Record):
    kind: Literal["stage_started"] = "stage_started"
    stage: Stage


class StageFinished(Record):
    kind: Literal["stage_finished"] = "stage_finished"
    stage: Stage
    seconds: float


class Progress(Record):
    """`done` of `total` steps of the stage."""

    kind: Literal["progress"] = "progress"
    stage: Stage
    done: int
    total: int


class Metrics(Record):
    """Named numbers at one step; names are TRL's where TRL has them. NaN and infinity may occur."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    kind: Literal["metrics"] = "metrics"
    stage: Stage
    step: int
    values: dict[str, float]


class Sample(Record):
    """A text that the policy wrote, to be read by people."""

    prompt: str
    response: str
    score: float | None = None


class Samples(Record):
    kind: Literal["samples"] = "samples"
    stage: Stage
    step: int
    texts: tuple[Sample, ...]


class Log(Record):
    kind: Literal["log"] = "log"
    text: str


Event = Annotated[
    StageStarted | StageFinished | Progress | Metrics | Samples | Log, Field(discriminator="kind")
]
_EVENT: TypeAdapter[StageStarted | StageFinished | Progress | Metrics | Samples | Log] = (
    TypeAdapter(Event)
)


class RunEvents:
    """The events of every run. Raises StoreUnavailable."""

    def __init__(self, redis: StoreClient) -> None:
        self._redis = redis

    def publish(self, run_id: int, event: Event) -> None:
        text = event.model_dump_json()
        self._redis.xadd(_key(run_id), {"event": text}, maxlen=_KEPT, approximate=True)

    def read(self, run_id: int, after_id: str = "0") -> list[tuple[str, Event]]:
        """At most a thousand events after `after_id`, oldest first, each with its id."""
        if not _ID.fullmatch(after_id):
            raise InvalidInput(f"after must be an event's id such as 0 or 17-0, got {after_id!r}")
        entries = cast(
            list[tuple[str, dict[str, str]]],
            self._redis.xrange(_key(run_id), min=f"({after_id}", count=_PAGE),
        )
        return [(entry_id, _EVENT.validate_json(fields["event"])) for entry_id, fields in entries]


def _key(run_id: int) -> str:
    return f"amends:run:{run_id}:events"
