"""A small server that speaks the chat protocol and says exactly what a test tells it to.

For what the real server would not say on demand: markup in an answer, a cut in the middle of a
stream, a refusal. Keeps the protocol's promises (seq, replay, stored turns, one answer per
message_id); has no model, no store and no tokens worth the name.
"""

import asyncio
import json
import socket
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "server" / "static" / "amends-chat.js"
SHOP_PAGE = ROOT / "server" / "shop_page"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html"
)
Frame = dict[str, Any]


@dataclass
class Told:
    """What a test may set, and what it may read afterwards."""

    answers: list[str] = field(default_factory=list)  # of the next messages, first in first out
    sources: list[dict[str, str]] = field(default_factory=list)
    errors: list[Frame] = field(default_factory=list)  # instead of an answer
    hold_after: int | None = None  # pieces after which a response waits for release()
    piece_s: float = 0.0
    feedback_status: int = 200
    page: str | None = None  # HTML of / instead of the example shop's
    feedback: list[tuple[str, Frame, str]] = field(default_factory=list)  # path, body, key
    hellos: list[Frame] = field(default_factory=list)
    messages: list[Frame] = field(default_factory=list)
    sessions: int = 0


@dataclass
class _Conversation:
    conversation_id: str
    log: list[Frame] = field(default_factory=list)
    turns: list[Frame] = field(default_factory=list)
    running: str | None = None
    started_at_seq: int = 0
    cancelled: bool = False
    answered: dict[str, Frame] = field(default_factory=dict)  # message_id -> its `accepted`
    sockets: set[WebSocket] = field(default_factory=set)

    async def emit(self, frame: Frame) -> None:
        seq = len(self.log) + 1
        full = {"protocol": 1, "seq": seq, "conversation_id": self.conversation_id, **frame}
        self.log.append(full)
        for peer in list(self.sockets):
            await _send(peer, full)


async def _send(peer: WebSocket, frame: Frame) -> None:
    try:
        await peer.send_text(json.dumps(frame))
    except (RuntimeError, WebSocketDisconnect):
        return  # the browser went away; it will say hello again


class Peer:
    """Runs in a thread of its own; `url` is where the browser finds it."""

    def __init__(self) -> None:
        self.told = Told()
        self.released = threading.Event()
        self._conversations: dict[str, _Conversation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        # A page that is still open may connect while this stops, and would be waited for.
        config = uvicorn.Config(
            self._app(),
            log_level="warning",
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> "Peer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def cut(self) -> None:
        """Closes every socket, as a network does: responses go on."""
        for conversation in list(self._conversations.values()):
            for peer in list(conversation.sockets):
                asyncio.run_coroutine_threadsafe(peer.close(1012), self._loop).result(5)

    def lose_conversations(self) -> None:
        """As after an erasure."""
        known = dict(self._conversations)
        self._conversations.clear()
        for conversation in known.values():
            for peer in list(conversation.sockets):
                asyncio.run_coroutine_threadsafe(peer.close(1012), self._loop).result(5)

    def _app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.get("/")(self._page)
        app.get("/shop/{path:path}")(lambda path: FileResponse(SHOP_PAGE / path))
        app.get("/widget/amends-chat.js")(lambda: FileResponse(BUNDLE))
        app.post("/v1/session")(self._session)
        app.put("/{path:path}")(self._feedback)
        app.websocket("/v1/chat")(self._chat)
        return app

    def _page(self) -> Response:
        page = self.told.page or (SHOP_PAGE / "index.html").read_text("utf-8")
        return Response(
            page,
            media_type="text/html",
            headers={"content-security-policy": CONTENT_SECURITY_POLICY},
        )

    async def _session(self) -> Frame:
        self._loop = asyncio.get_running_loop()
        self.told.sessions += 1
        return {"token": f"t{self.told.sessions}", "visitor_id": "v", "expires_at": 4e9}

    async def _feedback(self, path: str, request: Request) -> Response:
        self.told.feedback.append(
            (path, await request.json(), request.headers.get("idempotency-key", ""))
        )
        body = {"feedback_id": "f", "status": "created"}
        return JSONResponse(body, status_code=self.told.feedback_status)

    async def _chat(self, peer: WebSocket) -> None:
        await peer.accept()
        conversation = None
        try:
            hello = await peer.receive_json()
            self.told.hellos.append(hello)
            conversation = await self._welcome(peer, hello)
            while conversation is not None:
                frame = await peer.receive_json()
                if frame["type"] == "cancel":
                    conversation.cancelled = True
                else:
                    await self._message(conversation, frame)
        except WebSocketDisconnect:
            pass
        finally:
            if conversation is not None:
                conversation.sockets.discard(peer)

    async def _welcome(self, peer: WebSocket, hello: Frame) -> _Conversation | None:
        known = hello["conversation_id"]
        if known is not None and known not in self._conversations:
            error = {"type": "error", "code": "not_found", "message": "no such conversation"}
            await _send(peer, {"protocol": 1, "seq": 0, "conversation_id": None, **error})
            await peer.close()
            return None
        key = known or uuid.uuid4().hex
        conversation = self._conversations.setdefault(key, _Conversation(key))
        after = hello["after_seq"]
        missed = after is None and known is not None
        if after is None:
            after = conversation.started_at_seq if conversation.running else len(conversation.log)
        welcome = {
            "type": "welcome",
            "shop": {"name": "Brambletarn", "greeting": "Hello! Ask me about our gear."},
            "turns": conversation.turns if missed else [],
            "rating": None,
            "missed": missed,
        }
        numbered = {"protocol": 1, "seq": after, "conversation_id": key}
        await _send(peer, {**numbered, **welcome})
        for frame in conversation.log[after:]:
            await _send(peer, frame)
        conversation.sockets.add(peer)
        return conversation

    async def _message(self, conversation: _Conversation, frame: Frame) -> None:
        self.told.messages.append(frame)
        if self.told.errors:
            error = self.told.errors.pop(0)
            await conversation.emit({"type": "error", "message_id": frame["message_id"], **error})
            return
        if frame["message_id"] in conversation.answered:
            await conversation.emit(conversation.answered[frame["message_id"]])
            return
        task = asyncio.create_task(self._respond(conversation, frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, conversation: _Conversation, message: Frame) -> None:
        answer = self.told.answers.pop(0) if self.told.answers else "You have **45 days**."
        response_id = turn_id = uuid.uuid4().hex
        conversation.running, conversation.cancelled = response_id, False
        conversation.started_at_seq = len(conversation.log)
        named = {"response_id": response_id}
        said = {"message_id": message["message_id"], "text": message["text"]}
        accepted = {"type": "accepted", **named, **said}
        conversation.answered[message["message_id"]] = accepted
        await conversation.emit(accepted)
        told = ""
        for count, start in enumerate(range(0, len(answer), 5)):
            await asyncio.sleep(self.told.piece_s)
            while count == self.told.hold_after and not self.released.is_set():
                if conversation.cancelled:
                    break
                await asyncio.sleep(0.01)
            if conversation.cancelled:
                break
            told += answer[start : start + 5]
            await conversation.emit({"type": "token", **named, "text": answer[start : start + 5]})
        sources = list(self.told.sources)
        turn = {"turn_id": turn_id, "policy_version": 0, "origin": "policy", "sources": sources}
        stored = {"message": message["text"], "response": told, "thumb": None}
        conversation.turns.append({**turn, **stored})
        conversation.running = None
        reason = "cancelled" if conversation.cancelled else "stop"
        ended = {"finish_reason": reason, "dropped_turns": 0}
        await conversation.emit({"type": "done", **named, **turn, **ended})
