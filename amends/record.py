"""The base of every value that crosses a process: frozen, strict about unknown fields.

Knows no store and no wire format beyond JSON. Invariant: a record that was read is equal to the
one that was written.
"""

import time
import uuid

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
