"""One response from its first token to its last, on one replica or, when that is lost, the next.

Knows no threads and no versions other than its own. Invariants: one version writes all of it; no
token comes twice, none is left out; the last chunk has a finish reason: "length" when the deadline
passed, "cancelled" when no replica was left to go on.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from amends.conversation import FinishReason
from amends.engine.remote.fleet import RETRY_S, Fleet
from amends.engine.remote.member import Member
from amends.engine.remote.replica import ReplicaLost, Written
from amends.engine.remote.versions import Loaded
from amends.engine.sequence import Chunk, Request, Sampling
from amends.errors import EngineBusy


class Response:
    """What `request` is answered with by the version it is bound to."""

    def __init__(
        self, fleet: Fleet, loaded: Loaded, request: Request, put: Callable[[Chunk], None]
    ) -> None:
        self._fleet = fleet
        self._loaded = loaded
        self._request = request
        self._put = put
        self._written: list[int] = []

    async def write(self) -> None:
        """To its end. Raises EngineBusy (before the first token only), InvalidInput."""
        try:
            async with asyncio.timeout_at(self._request.deadline_s):  # both are time.monotonic()
                await self._write_somewhere()
        except TimeoutError:
            if not self._written:
                raise EngineBusy("nothing was written within the deadline", RETRY_S) from None
            self._end("length")

    async def _write_somewhere(self) -> None:
        tried: set[Member] = set()
        while True:
            member = self._fleet.choose(self._loaded.name, tried)
            if member is None:
                if not self._written:
                    raise EngineBusy("no vLLM server can answer now", RETRY_S)
                return self._end("cancelled")
            tried.add(member)
            elsewhere = self._fleet.choose(self._loaded.name, tried) is not None
            try:
                return await self._write_on(member, elsewhere)
            except ReplicaLost as error:
                self._fleet.lost(member, error)
            except _TooSlow as error:
                self._fleet.slow(member, str(error))

    async def _write_on(self, member: Member, elsewhere: bool) -> None:
        """Go on where the last replica stopped: what it wrote is part of the prompt now."""
        prompt = (*self._request.prompt_ids, *self._written)
        pieces = member.replica.write(self._loaded.name, prompt, self._sampling())
        patience = self._fleet.patience
        async with aclosing(pieces):
            member.waiting += 1
            try:
                first = await _within(pieces, patience.first_token_s if elsewhere else None)
            finally:
                member.waiting -= 1
            member.running += 1
            try:
                ended = self._take(first)
                while not ended:
                    ended = self._take(await _within(pieces, patience.next_token_s))
            finally:
                member.running -= 1

    def _take(self, piece: Written) -> bool:
        self._written += piece.token_ids
        version = self._loaded.version
        self._put(Chunk(piece.token_ids, piece.logprobs, version, piece.finish_reason))
        return piece.finish_reason is not None

    def _sampling(self) -> Sampling:
        sampling, written = self._request.sampling, len(self._written)
        seed = None if sampling.seed is None else sampling.seed + written  # or it drew as before
        return replace(sampling, max_tokens=sampling.max_tokens - written, seed=seed)

    def _end(self, reason: FinishReason) -> None:
        self._put(Chunk((), (), self._loaded.version, reason))


class _TooSlow(Exception):
    """The replica took longer than patience allows."""


async def _within(pieces: AsyncGenerator[Written, None], limit_s: float | None) -> Written:
    try:
        async with asyncio.timeout(limit_s):
            return await anext(pieces)
    except TimeoutError:
        raise _TooSlow(f"it wrote nothing for {limit_s:g} s") from None
