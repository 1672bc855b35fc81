"""docs/protocol.md says what server/protocol.py does."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from server import protocol
from server.protocol import (
    Accepted,
    BadFrame,
    Cancel,
    Done,
    Error,
    ErrorCode,
    Hello,
    Message,
    PastTurn,
    Token,
    Welcome,
    parse_client_frame,
    to_text,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
COMMON = {"type", "protocol", "seq", "conversation_id"}


def table(heading: str) -> dict[str, str]:
    """First column without back-ticks -> the rest of the row."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("frame", [Welcome, Accepted, Token, Done, Error])
def test_every_server_frame_is_documented_with_its_fields(frame: type[BaseModel]) -> None:
    row = table("Server to client")[frame.model_fields["type"].default].split("|")[0]
    named = set(re.findall(r"`(\w+)`", row)) - {"name", "greeting"}
    assert named == set(frame.model_fields) - COMMON


@pytest.mark.parametrize("frame", [Hello, Message, Cancel])
def test_every_client_frame_is_documented_with_its_fields(frame: type[BaseModel]) -> None:
    row = table("Client to server")[frame.model_fields["type"].default].split("|")[0]
    assert set(re.findall(r"`(\w+)`", row)) == set(frame.model_fields) - {"type"}


def test_no_frame_is_documented_that_does_not_exist() -> None:
    assert set(table("Server to client")) == {"welcome", "accepted", "token", "done", "error"}
    assert set(table("Client to server")) == {"hello", "message", "cancel"}


def test_every_error_code_is_documented() -> None:
    assert set(table("Errors")) == set(get_args(ErrorCode))


def test_the_fields_of_past_turns_are_documented() -> None:
    (sentence,) = re.findall(r"A turn in `welcome` has (.*?)\.", DOCUMENT)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(PastTurn.model_fields)


def test_the_documented_version_is_the_one_spoken() -> None:
    assert DOCUMENT.startswith(f"# The chat protocol, version {protocol.PROTOCOL}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"type":"other"}',
        '{"type":"message","message_id":"a b","text":"x"}',
        '{"type":"message","message_id":"a","text":"x","extra":1}',
        '{"type":"cancel"}',
        '{"type":"hello","protocol":1,"token":"t","after_seq":-1}',
        '{"type":"hello","protocol":1,"token":"t","conversation_id":"../x"}',
    ],
)
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(BadFrame) as caught:
        parse_client_frame(text)
    assert caught.value.code == "bad_frame"


def test_absent_fields_of_an_error_are_left_out() -> None:
    assert to_text(Error(code="busy", message="later", retry_after_s=2.0)) == (
        '{"protocol":1,"seq":0,"conversation_id":null,"type":"error","code":"busy",'
        '"message":"later","retry_after_s":2.0}'
    )
