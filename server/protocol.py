"""The WebSocket frames of /v1/chat, as tagged unions, and which may follow which.

Knows no store, no engine and no socket. docs/protocol.md tells the same to integrators; a test
keeps the two equal. Invariants: `seq` belongs to a conversation and grows by one with every frame,
except two kinds that take no number and carry the present one: `welcome`, a snapshot from which the
next frames count on, and an error that concerns one connection only (`bad_frame`, or `not_found`
for a `cancel`). A server that no longer remembers a conversation numbers on from far above. Frames
outside any conversation carry seq 0.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from amends.conversation import FinishReason, Origin
from amends.record import Record

PROTOCOL: Final = 1
MAX_FRAME_BYTES: Final = 64 * 1024

ErrorCode = Literal[
    "bad_frame",
    "bad_protocol",
    "unauthorized",
    "not_found",
    "empty_message",
    "message_too_long",
    "busy",
    "not_now",
    "internal",
]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]


# What a client sends.


class Hello(Record):
    """First frame of a connection: who is there, and which conversation goes on."""

    type: Literal["hello"] = "hello"
    protocol: int = Field(description="protocol version the client speaks")
    token: str = Field(max_length=4096, description="visitor token from POST /v1/session")
    conversation_id: Id | None = Field(None, description="null opens a new conversation")
    after_seq: int | None = Field(
        None, ge=0, lt=2**53, description="seq of the last frame seen; null: send everything anew"
    )


class Message(Record):
    """What the visitor wrote. Sending the same message_id again is harmless."""

    type: Literal["message"] = "message"
    message_id: Id = Field(description="chosen by the client, unique in the conversation")
    text: str


class Cancel(Record):
    """Stop writing this response; what was written so far is stored."""

    type: Literal["cancel"] = "cancel"
    response_id: Id


ClientFrame = Annotated[Hello | Message | Cancel, Field(discriminator="type")]
CLIENT_FRAME: TypeAdapter[Hello | Message | Cancel] = TypeAdapter(ClientFrame)


# What the server sends.


class _ServerFrame(Record):
    protocol: Literal[1] = 1
    seq: int = Field(0, ge=0)
    conversation_id: str | None = None


class Source(Record):
    """A passage that the response used, as a visitor may see it."""

    title: str
    source: str


class Shop(Record):
    name: str
    greeting: str


class PastTurn(Record):
    """A finished turn, with this visitor's thumb on it."""

    turn_id: str
    message: str
    response: str
    policy_version: int
    origin: Origin
    sources: tuple[Source, ...]
    thumb: Literal[1, -1] | None
    finish_reason: FinishReason


class Welcome(_ServerFrame):
    """Answer to `hello`. With `missed`, `turns` replaces what the client had; else the frames after
    `after_seq` follow. A response that is being written follows from its `accepted` on, or from
    `after_seq`.
    """

    type: Literal["welcome"] = "welcome"
    shop: Shop
    turns: tuple[PastTurn, ...]
    rating: int | None = Field(ge=1, le=5)
    missed: bool


class Accepted(_ServerFrame):
    """The visitor's message is stored; a response will come."""

    type: Literal["accepted"] = "accepted"
    message_id: str
    response_id: str
    text: str = Field(description="the message, for other windows of the same conversation")


class Token(_ServerFrame):
    """The next piece of the response."""

    type: Literal["token"] = "token"
    response_id: str
    text: str


class Done(_ServerFrame):
    """The response is complete and stored; `turn_id` is what feedback points at."""

    type: Literal["done"] = "done"
    response_id: str
    turn_id: str
    policy_version: int
    origin: Origin
    finish_reason: FinishReason
    sources: tuple[Source, ...]
    dropped_turns: int


class Error(_ServerFrame):
    """A frame could not be answered. With `retry_after_s` the same frame may be sent again then."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    message_id: str | None = None
    response_id: str | None = None
    retry_after_s: float | None = None


Event = Accepted | Token | Done | Error


class BadFrame(Exception):
    """A client's frame is not one of this protocol; `code` says in which way."""

    def __init__(self, code: Literal["bad_frame", "bad_protocol"], message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_client_frame(text: str) -> Hello | Message | Cancel:
    """Raises BadFrame for anything that is not a client frame of this protocol version."""
    try:
        frame = CLIENT_FRAME.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "frame"
        raise BadFrame("bad_frame", f"{where}: {first['msg']}") from None
    if isinstance(frame, Hello) and frame.protocol != PROTOCOL:
        raise BadFrame(
            "bad_protocol", f"this server speaks protocol {PROTOCOL}, the client {frame.protocol}"
        )
    return frame


def to_text(frame: Welcome | Event) -> str:
    """The frame as it goes over the wire; absent optional fields of `error` are left out."""
    if isinstance(frame, Error):
        optional = {
            name
            for name in ("message_id", "response_id", "retry_after_s")
            if getattr(frame, name) is None
        }
        return frame.model_dump_json(exclude=optional)
    return frame.model_dump_json()
