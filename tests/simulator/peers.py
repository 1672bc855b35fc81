"""Peers that speak the public protocol with a script, to test the client against."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

Frame = dict[str, Any]
Route = Callable[[Frame | None], tuple[int, Frame, dict[str, str]]]


class ChatPeer:
    """One socket of a scripted chat server: numbers its frames as the protocol wants."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.seq = 4
        self.heard: list[Frame] = []

    async def hear(self) -> Frame:
        self.heard.append(json.loads(await self.socket.recv()))
        return self.heard[-1]

    async def say(self, kind: str, **fields: Any) -> None:
        self.seq += kind != "welcome"
        frame = {"protocol": 1, "seq": self.seq, "conversation_id": "c1", "type": kind}
        await self.socket.send(json.dumps({**frame, **fields}))

    async def welcome(self) -> Frame:
        hello = await self.hear()
        shop = {"name": "Shop", "greeting": "Hello"}
        await self.say("welcome", shop=shop, turns=[], rating=None, missed=False)
        return hello

    async def answer(self, message: Frame, *pieces: str, version: int = 7) -> None:
        await self.say(
            "accepted", message_id=message["message_id"], response_id="r1", text=message["text"]
        )
        for piece in pieces:
            await self.say("token", response_id="r1", text=piece)
        await self.say(
            "done",
            response_id="r1",
            turn_id="t1",
            policy_version=version,
            origin="policy",
            finish_reason="stop",
            sources=[{"title": "Returns: Return window", "source": "returns.md"}],
            dropped_turns=0,
        )


@asynccontextmanager
async def chat_server(play: Callable[[ChatPeer], Awaitable[None]]) -> AsyncIterator[str]:
    """Runs `play` for each socket; gives the base URL. A failure in `play` closes the socket."""

    async def handle(socket: ServerConnection) -> None:
        await play(ChatPeer(socket))
        await asyncio.wait_for(socket.wait_closed(), 10)

    async with serve(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}"


@contextmanager
def http_server(routes: dict[str, Route]) -> Iterator[str]:
    """Answers "METHOD /path" from the routes; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, reply, headers = routes[f"{self.command} {self.path}"](body)
            raw = json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
