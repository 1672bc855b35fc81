"""The base of every value that crosses a process: frozen, strict about unknown fields.

Knows no store and no wire format beyond JSON. Invariant: a record that was read is equal to the
one that was written.
"""

import time
import uuid
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def new_id() -> str:
    """A random id, 32 hexadecimal characters."""
    return uuid.uuid4().hex


def now_s() -> float:
    """Seconds since the epoch, UTC."""
    return time.time()


def in_utc(seconds: float) -> str:
    """A time as people read it, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
