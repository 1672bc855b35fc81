"""A loopback server with vLLM's routes and without a model, for faults that a real one has rarely.

Version 7 (its folder's name) writes the token 1000 * 7 + p at position p of prompt and response
together, unless `token_of` says otherwise: a token that is lost, doubled or of another version
shows.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

BASE = "/models/base"


def version_of(folder: Path) -> int:
    """Of the folder that an adapter was loaded from; that of zeros is named after its shape."""
    return int(folder.name) if len(folder.name) < 16 else 0


def logprob_of(token_id: int) -> float:
    return -0.001 * (token_id % 1000)


class VllmPeer:
    """`start` and `stop` as often as wanted; it keeps its port and forgets its adapters."""

    def __init__(self) -> None:
        self.max_model_len = 256
        self.ready = True
        self.refuses: str | None = None  # what it says instead of loading
        self.token_of: Callable[[int, int], int] = lambda version, at: 1000 * version + at
        self.fails_at: int | None = None  # a version at whose loading its connections break
        self.no_effect: set[int] = set()
        self.not_finite: set[int] = set()
        self.load_pause_s = 0.0
        self.first_pause_s = 0.0
        self.pause_s = 0.0
        self.dies_after: int | None = None  # tokens of a response
        self.adapters: dict[str, Path] = {}
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.asked: list[dict[str, Any]] = []  # bodies of streamed requests
        self.unknown = 0  # streamed requests for an adapter that it does not hold
        self.running = 0
        self.left = 0  # streamed requests whose client went before the end
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        peer = self

        class Handler(_Handler):
            def setup(self) -> None:
                super().setup()
                self.peer = peer
                peer._connections.add(self.connection)

            def finish(self) -> None:
                peer._connections.discard(self.connection)
                with suppress(OSError):
                    super().finish()

        self.adapters.clear()
        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,)).start()
        return self

    def stop(self) -> None:
        """As when it is killed: every connection breaks."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()

    @property
    def stopped(self) -> bool:
        return self._server is None

    def holds(self, version: int) -> bool:
        return version in map(version_of, self.adapters.values())


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a connection that breaks is what is tested


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    peer: VllmPeer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200 if self.peer.ready else 503, {})
        elif self.path == "/v1/models":
            base = {"id": BASE, "parent": None, "max_model_len": self.peer.max_model_len}
            loras = [{"id": name, "parent": BASE} for name in self.peer.adapters]
            self._answer(200, {"data": [base, *loras]})
        else:
            self._answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/load_lora_adapter":
            self._load(body)
        elif self.path == "/v1/unload_lora_adapter":
            self.peer.unloads.append(body["lora_name"])
            found = self.peer.adapters.pop(body["lora_name"], None)
            self._answer(200 if found else 404, {})
        elif body["model"] not in self.peer.adapters:
            self.peer.unknown += "stream" in body
            self._answer(404, _error(f"The model `{body['model']}` does not exist."))
        elif "stream" in body:
            self._write(body)
        else:
            self._tell_first(body)

    def _load(self, body: dict[str, str]) -> None:
        name, peer = body["lora_name"], self.peer
        time.sleep(peer.load_pause_s)
        if version_of(Path(body["lora_path"])) == peer.fails_at:
            self.close_connection = True
        elif peer.refuses is not None:
            self._answer(500, _error(peer.refuses))
        elif name in peer.adapters:
            self._answer(400, _error(f"The lora adapter '{name}' has already been loaded."))
        else:
            peer.adapters[name] = Path(body["lora_path"])
            peer.loads.append(name)
            self._answer(200, {})

    def _tell_first(self, body: dict[str, Any]) -> None:
        version = self._version(body)
        if version in self.peer.not_finite:
            return self._answer(400, _error("Out of range float values are not JSON compliant"))
        shift = 0.0 if version in self.peer.no_effect else 0.1 * version
        likeliest = {f"token_id:{t}": -1.0 - shift for t in range(body["logprobs"])}
        self._answer(200, {"choices": [{"logprobs": {"top_logprobs": [likeliest]}}]})

    def _write(self, body: dict[str, Any]) -> None:
        peer = self.peer
        peer.asked.append(body)
        peer.running += 1
        try:
            self._stream(body)
        except OSError:
            peer.left += 1
        finally:
            peer.running -= 1
            self.close_connection = True

    def _stream(self, body: dict[str, Any]) -> None:
        peer, version, prompt = self.peer, self._version(body), len(body["prompt"])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index in range(body["max_tokens"]):
            self._wait(peer.pause_s if index else max(peer.first_pause_s, peer.pause_s))
            if index == peer.dies_after or peer.stopped:
                raise ConnectionError
            token_id = peer.token_of(version, prompt + index)
            choice = {
                "token_ids": [token_id],
                "logprobs": {"token_logprobs": [logprob_of(token_id)]},
                "finish_reason": "length" if index == body["max_tokens"] - 1 else None,
            }
            self._chunk(f"data: {json.dumps({'choices': [choice]})}\n\n")
        self._chunk("data: [DONE]\n\n")
        self._chunk("")

    def _wait(self, seconds: float) -> None:
        """Notices, as vLLM does, a client that goes while nothing is written."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.connection.settimeout(min(left, 0.05))
            with suppress(TimeoutError):
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise ConnectionError
            self.connection.settimeout(None)

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def _version(self, body: dict[str, Any]) -> int:
        return version_of(self.peer.adapters[body["model"]])

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}
