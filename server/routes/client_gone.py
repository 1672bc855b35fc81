"""Work for one HTTP request that ends as soon as its client has gone.

Knows requests and responses, not what the work is. Invariant: when the client has gone, the work is
cancelled and an iterator that was being sent is closed, at once and not when garbage is collected.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send

T = TypeVar("T")
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class EventStream(StreamingResponse):
    """Server-sent events, made of what `source` yields; both are closed in any case."""

    def __init__(
        self, events: AsyncGenerator[str, None], source: AsyncGenerator[Any, None]
    ) -> None:
        super().__init__(events, headers=_HEADERS, media_type="text/event-stream")
        self._events, self._source = events, source

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._source), aclosing(self._events):
            await super().stream_response(send)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work. Raises ClientGone when the client went first; the work is cancelled
    then.

    The request's body must have been read.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_until_gone(request))
    both = (working, watching)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
