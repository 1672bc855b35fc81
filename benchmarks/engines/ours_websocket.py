"""The server of Amends through the visitors' WebSocket: retrieval, store, engine and all.

Prompts have the wanted length, not the workload's tokens: the server composes them. Tokens are
those that /metrics counts.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from amends_server import AmendsServer, amends_server, message
from cells import Began, arguments, serve

from simulator.client import Api, Chat

PROMPT, WRITTEN = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
TRIAL_WORDS = 8


class Visitors:
    """As many sockets as a cell has streams, opened before its clock starts."""

    def __init__(self, server: AmendsServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._sockets = AsyncExitStack()
        self._chats: list[Chat] = []
        self._turns = 0
        self._rest = 0  # tokens of a prompt beside the message's words

    def calibrate(self) -> None:
        before = self._server.counted(PROMPT)
        self.connect(1)
        self._loop.run_until_complete(self._chats[0].ask(message(TRIAL_WORDS, "trial")))
        self._rest = int(self._server.counted(PROMPT) - before) - TRIAL_WORDS

    def connect(self, streams: int) -> None:
        """A new conversation for each stream: none has a history."""
        self._loop.run_until_complete(self._connect(streams))

    def run(self, prompts: Sequence[Sequence[int]], live: Sequence[int], began: Began) -> int:
        before = self._server.counted(WRITTEN)
        self._loop.run_until_complete(self._ask([len(prompt) for prompt in prompts], began))
        return int(self._server.counted(WRITTEN) - before)

    def close(self) -> None:
        self._loop.run_until_complete(self._sockets.aclose())
        self._loop.close()

    async def _connect(self, streams: int) -> None:
        await self._sockets.aclose()
        api = await self._sockets.enter_async_context(
            Api(self._server.url, self._server.staff_token)
        )
        visitor = await api.open_session()
        self._chats = [
            await self._sockets.enter_async_context(api.chat(visitor)) for _ in range(streams)
        ]

    async def _ask(self, lengths: list[int], began: Began) -> None:
        async def ask(stream: int, chat: Chat, length: int) -> None:
            self._turns += 1
            answer = await chat.ask(message(length - self._rest, str(self._turns)))
            if answer.origin != "policy":
                raise RuntimeError(f"expected the policy's answer, got {answer}")
            began(stream, answer.first_token_s)

        asked = zip(self._chats, lengths, strict=True)
        await asyncio.gather(*(ask(i, chat, n) for i, (chat, n) in enumerate(asked)))


def main() -> None:
    workload, versions = arguments()
    with (
        tempfile.TemporaryDirectory(prefix="amends-bench-") as home,
        amends_server(
            workload.model, workload.adapters[:versions], workload.new_tokens, Path(home)
        ) as server,
    ):
        visitors = Visitors(server)
        visitors.calibrate()
        serve(workload, versions, visitors.run, visitors.connect)
        visitors.close()


if __name__ == "__main__":
    main()
