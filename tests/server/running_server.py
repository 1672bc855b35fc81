"""The real application on a free port, as `python -m server` runs it, and clients for it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import uvicorn
from websockets.sync.client import ClientConnection, connect

from amends.settings import Settings
from server.__main__ import config_of, listening_socket
from server.app import create_app
from server.settings import ServerSettings
from server.state import LoadedModel, State

STAFF_TOKEN = "staff-token-of-the-tests"
Frame = dict[str, Any]


class RunningServer:
    """One server process's worth of objects, in a thread."""

    def __init__(
        self,
        shared: Settings,
        settings: ServerSettings,
        redis_url: str,
        load: Callable[[Settings], LoadedModel],
    ) -> None:
        self.fatal = threading.Event()
        app = create_app(shared, settings, redis_url, load=load, on_fatal=self.fatal.set)
        config = config_of(app, settings)
        self._listener = listening_socket(config, settings.unacknowledged_s)
        self.port: int = self._listener.getsockname()[1]
        self._server = uvicorn.Server(config)
        self._app = app
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="server"
        )
        self._thread.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        wait_until(lambda: self._server.started or not self._thread.is_alive())

    @property
    def state(self) -> State:
        state: State = self._app.state.amends
        return state

    @property
    def staff(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {STAFF_TOKEN}"}

    def wait_ready(self) -> Self:
        wait_until(lambda: self.http.get("/readyz").status_code == 200)
        return self

    def new_visitor(self) -> "Visitor":
        answer = self.http.post("/v1/session", json={})
        answer.raise_for_status()
        return Visitor(self, answer.json()["token"], answer.json()["visitor_id"])

    def stop(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(30)
        self._listener.close()
        assert not self._thread.is_alive()


@dataclass
class Visitor:
    """A visitor with a token."""

    server: RunningServer
    token: str
    visitor_id: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @contextmanager
    def chat(
        self, conversation_id: str | None = None, after_seq: int | None = None
    ) -> Iterator["Chat"]:
        with open_socket(self.server) as socket:
            chat = Chat(socket)
            chat.hello(self.token, conversation_id, after_seq)
            yield chat

    def ask(self, text: str, conversation_id: str | None = None) -> "Answer":
        """One message on a socket of its own, to its end."""
        with self.chat(conversation_id) as chat:
            return chat.ask(text)


@contextmanager
def open_socket(server: RunningServer, origin: str | None = None) -> Iterator[ClientConnection]:
    headers = {"Origin": origin} if origin is not None else {}
    with connect(
        f"ws://127.0.0.1:{server.port}/v1/chat",
        additional_headers=headers,
        compression=None,
        close_timeout=1,
    ) as socket:
        yield socket


@dataclass
class Answer:
    """What came for one message."""

    conversation_id: str
    text: str
    end: Frame

    @property
    def turn_id(self) -> str:
        turn_id: str = self.end["turn_id"]
        return turn_id


@dataclass
class Chat:
    """A socket after hello. `frames` holds everything received."""

    socket: ClientConnection
    frames: list[Frame] = field(default_factory=list)
    welcome: Frame = field(default_factory=dict)
    sent: int = 0

    def hello(self, token: str, conversation_id: str | None, after_seq: int | None) -> None:
        self.send(
            type="hello",
            protocol=1,
            token=token,
            conversation_id=conversation_id,
            after_seq=after_seq,
        )
        self.welcome = self.receive()
        assert self.welcome["type"] == "welcome", self.welcome

    @property
    def conversation_id(self) -> str:
        conversation_id: str = self.welcome["conversation_id"]
        return conversation_id

    def send(self, **frame: object) -> None:
        self.socket.send(json.dumps(frame))

    def say(self, text: str, message_id: str | None = None) -> str:
        self.sent += 1
        message_id = message_id or f"m{self.sent}-{time.monotonic_ns()}"
        self.send(type="message", message_id=message_id, text=text)
        return message_id

    def receive(self, timeout: float = 10) -> Frame:
        frame: Frame = json.loads(self.socket.recv(timeout=timeout))
        self.frames.append(frame)
        return frame

    def receive_until(self, *types: str) -> list[Frame]:
        """Frames up to and including the first of one of these types."""
        found = [self.receive()]
        while found[-1]["type"] not in types:
            found.append(self.receive())
        return found

    def ask(self, text: str) -> Answer:
        self.say(text)
        frames = self.receive_until("done", "error")
        written = "".join(frame["text"] for frame in frames if frame["type"] == "token")
        return Answer(self.conversation_id, written, frames[-1])


def wait_until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
