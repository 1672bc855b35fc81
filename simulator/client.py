"""The public API as a program outside sees it: WebSocket /v1/chat and the HTTP routes.

Knows no question, no gold and none of the programs' modules: what it believes about the wire
stands here and is checked on every frame. Invariants: frames of a conversation arrive with `seq`
growing by one, but for errors that concern this socket only (anything else raises ProtocolBroken,
never a guess); a refusal that names a time is tried again then, a bounded number of times.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

PROTOCOL = 1
TRIES = 20  # of a frame or request that the server asks to send again later
ANSWER_TIMEOUT_S = 180.0  # silence after which an answer counts as lost


class ApiRefused(Exception):
    """The server answered a request with an error status."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: expected success, got {status}: {text[:500]}")
        self.status = status


class ChatRefused(Exception):
    """The server answered a frame with an error that waiting does not cure."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ProtocolBroken(Exception):
    """A frame is not what the protocol promises: wrong version, a gap in seq, an unknown type."""


@dataclass(frozen=True)
class Visitor:
    """Who chats: what POST /v1/session gave."""

    visitor_id: str
    token: str


@dataclass(frozen=True)
class Answer:
    """A finished response, as the visitor saw it."""

    turn_id: str
    text: str
    policy_version: int
    origin: str
    finish_reason: str
    sources: tuple[str, ...]
    first_token_s: float
    seconds: float


class Chat:
    """One conversation over one socket; made by `Api.chat`."""

    def __init__(self, socket: ClientConnection, welcome: dict[str, Any]) -> None:
        self._socket = socket
        self._seq = int(welcome["seq"])
        self.conversation_id = str(welcome["conversation_id"] or "")

    async def ask(self, text: str) -> Answer:
        """Sends a message and reads until the response is complete and stored."""
        frame = json.dumps({"type": "message", "message_id": uuid.uuid4().hex, "text": text})
        for _ in range(TRIES):
            await self._socket.send(frame)
            answer = await self._read_answer()
            if isinstance(answer, Answer):
                return answer
            await asyncio.sleep(answer)
        raise ChatRefused("busy", f"still busy after {TRIES} tries")

    async def _read_answer(self) -> Answer | float:
        """The answer, or the seconds after which the message may be sent again."""
        started = time.monotonic()
        first_s: float | None = None
        pieces: list[str] = []
        while True:
            frame = await self._next_frame()
            match frame["type"]:
                case "accepted":
                    pass
                case "token":
                    first_s = first_s if first_s is not None else time.monotonic() - started
                    pieces.append(frame["text"])
                case "done":
                    seconds = time.monotonic() - started
                    return Answer(
                        turn_id=frame["turn_id"],
                        text="".join(pieces).strip(),
                        policy_version=int(frame["policy_version"]),
                        origin=frame["origin"],
                        finish_reason=frame["finish_reason"],
                        sources=tuple(source["title"] for source in frame["sources"]),
                        first_token_s=seconds if first_s is None else first_s,
                        seconds=seconds,
                    )
                case "error":
                    if frame.get("retry_after_s") is None:
                        raise ChatRefused(frame["code"], frame["message"])
                    return float(frame["retry_after_s"])
                case unknown:
                    raise ProtocolBroken(
                        f"expected accepted, token, done or error, got {unknown!r}"
                    )

    async def _next_frame(self) -> dict[str, Any]:
        frame = await _receive(self._socket)
        if frame["conversation_id"] is None:  # outside any conversation: not counted
            return frame
        self.conversation_id = self.conversation_id or frame["conversation_id"]
        # An error that concerns this socket only takes no number: it carries the present one.
        ours = frame["type"] == "error" and frame["seq"] == self._seq
        in_order = ours or frame["seq"] == self._seq + 1
        if frame["conversation_id"] != self.conversation_id or not in_order:
            raise ProtocolBroken(
                f"expected frame {self._seq + 1} of conversation {self.conversation_id}, "
                f"got {frame['seq']} of {frame['conversation_id']}"
            )
        self._seq = int(frame["seq"])
        return frame


async def _receive(socket: ClientConnection) -> dict[str, Any]:
    try:
        raw = await asyncio.wait_for(socket.recv(), ANSWER_TIMEOUT_S)
    except TimeoutError:
        raise ProtocolBroken(f"no frame came within {ANSWER_TIMEOUT_S:g} s") from None
    except websockets.ConnectionClosed as closed:
        raise ProtocolBroken(f"the server closed the socket: {closed}") from closed
    frame = json.loads(raw)
    if not isinstance(frame, dict) or frame.get("protocol") != PROTOCOL or "type" not in frame:
        raise ProtocolBroken(f"expected a frame of protocol {PROTOCOL}, got {str(raw)[:200]}")
    return frame


class Api:
    """A server's public routes; use as `async with Api(url, staff_token) as api`."""

    def __init__(self, base_url: str, staff_token: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._staff_token = staff_token
        self._http = httpx.AsyncClient(base_url=self._base_url, timeout=60.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    # What a visitor does.

    async def open_session(self) -> Visitor:
        body = await self._request("POST", "/v1/session", None, {})
        return Visitor(body["visitor_id"], body["token"])

    @asynccontextmanager
    async def chat(self, visitor: Visitor) -> AsyncIterator[Chat]:
        """A new conversation of this visitor."""
        url = self._base_url.replace("http", "ws", 1) + "/v1/chat"
        async with connect(url, open_timeout=60, max_size=2**20, proxy=None) as socket:
            hello = {"type": "hello", "protocol": PROTOCOL, "token": visitor.token}
            await socket.send(json.dumps({**hello, "conversation_id": None, "after_seq": None}))
            welcome = await _receive(socket)
            if welcome["type"] == "error":
                raise ChatRefused(welcome["code"], welcome["message"])
            if welcome["type"] != "welcome":
                raise ProtocolBroken(f"expected welcome, got {welcome['type']!r}")
            yield Chat(socket, welcome)

    async def thumb(self, visitor: Visitor, turn_id: str, value: int) -> None:
        body = {"value": value, "reasons": [], "comment": ""}
        await self._request("PUT", f"/v1/turns/{turn_id}/thumb", visitor.token, body)

    async def rating(self, visitor: Visitor, conversation_id: str, value: int) -> None:
        path = f"/v1/conversations/{conversation_id}/rating"
        await self._request("PUT", path, visitor.token, {"value": value})

    # What staff do.

    async def correct(self, turn_id: str, response: str) -> None:
        path = f"/v1/turns/{turn_id}/corrections"
        await self._staff("POST", path, {"response": response})

    async def feedback_counts(self) -> dict[str, dict[str, int]]:
        """kind -> state (pending, claimed, completed) -> count."""
        counts: dict[str, dict[str, int]] = await self._staff("GET", "/v1/feedback/counts")
        return counts

    async def start_run(self, optimizer: str) -> int:
        return int((await self._staff("POST", "/v1/runs", {"optimizer": optimizer}))["run_id"])

    async def run(self, run_id: int) -> dict[str, Any]:
        run: dict[str, Any] = await self._staff("GET", f"/v1/runs/{run_id}")
        return run

    async def run_events(self, run_id: int, after: str) -> list[tuple[str, dict[str, Any]]]:
        """(event id, event) of the run, oldest first, after the given id."""
        found = await self._staff("GET", f"/v1/runs/{run_id}/events?after={after}")
        return [(row["id"], row["event"]) for row in found["events"]]

    async def adapters(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._staff("GET", "/v1/adapters")
        return found

    async def activate(self, version: int, force: bool = False) -> None:
        """`force`: though the gate refused it."""
        await self._staff("POST", f"/v1/adapters/{version}/activate", {"force": force})

    # What anybody may ask.

    async def serving_version(self) -> int | None:
        """The policy version that answers, None while the server is not ready."""
        reply = await self._http.get("/readyz")
        return int(reply.json()["policy_version"]) if reply.status_code == 200 else None

    async def _staff(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return await self._request(method, path, self._staff_token, body)

    async def _request(
        self, method: str, path: str, token: str | None, body: dict[str, Any] | None
    ) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        for _ in range(TRIES):
            reply = await self._http.request(method, path, json=body, headers=headers)
            if reply.status_code not in (429, 503) or "Retry-After" not in reply.headers:
                break
            await asyncio.sleep(float(reply.headers["Retry-After"]))
        if not reply.is_success:
            raise ApiRefused(method, path, reply.status_code, reply.text)
        return reply.json() if reply.content else None
