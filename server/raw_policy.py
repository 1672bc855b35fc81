"""Responses of the policy alone to messages that somebody else composed: no documents, no rules,
nothing stored.

Knows no HTTP and no wire format. Invariants: one version writes every response to a prompt, from
first token to last; no part of a stop string gets out; closing `write` frees the engine's rows.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from amends.engine.sequence import Chunk, Request, Sampling
from amends.errors import InvalidInput, ModelUnavailable
from amends.prompt import PromptRenderer, ResponseDecoder
from server.stop_text import StopText

Ending = Literal["stop", "length"]


class ContextTooLong(InvalidInput):
    """The messages, with room for the response, are more tokens than the policy can read."""


class Writer(Protocol):
    """What is needed of an engine (amends.engine.service.EngineService)."""

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]: ...


@dataclass(frozen=True)
class Ask:
    """(role, text) messages and how to answer them; None: as visitors are answered."""

    messages: tuple[tuple[str, str], ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class Prepared:
    """An ask that fits the context, bound to a version; one Sampling per response."""

    version: int
    prompt_ids: tuple[int, ...]
    samplings: tuple[Sampling, ...]
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Token:
    """What a token stands for, and its log-probability under the raw logits at temperature 1."""

    spelling: bytes
    logprob: float


@dataclass(frozen=True)
class Piece:
    """The next piece of response `index`; `finish_reason` is set on its last one only.

    `tokens` are those whose text begins in this piece, end tokens left out; `written_tokens` is all
    that the policy wrote for the response so far.
    """

    index: int
    text: str
    tokens: tuple[Token, ...]
    written_tokens: int
    finish_reason: Ending | None = None


class RawPolicy:
    """Answers any prompt; `sampling` holds where an ask says nothing."""

    def __init__(self, engine: Writer, renderer: PromptRenderer, sampling: Sampling) -> None:
        self._engine = engine
        self._renderer = renderer
        self._sampling = sampling

    def prepare(self, ask: Ask, version: int) -> Prepared:
        """Renders the prompt and checks that it fits. Blocks; runs in a thread.

        Raises ContextTooLong, InvalidInput (the chat template refuses the messages).
        """
        prompt_ids = self._renderer.render_messages(ask.messages)
        most = self._renderer.context_tokens
        room = most - len(prompt_ids)
        if room < (ask.max_tokens or 1):
            raise ContextTooLong(
                f"expected messages and response of at most {most} tokens together, got "
                f"{len(prompt_ids)} in the messages and {ask.max_tokens or 'at least 1'} for the "
                "response; send less, or ask for fewer"
            )
        default = self._sampling
        sampling = Sampling(
            max_tokens=ask.max_tokens or min(default.max_tokens, room),
            temperature=default.temperature if ask.temperature is None else ask.temperature,
            # 0 is allowed on the wire and means the likeliest token, which the engine draws at any
            # share that one token passes.
            top_p=max(default.top_p if ask.top_p is None else ask.top_p, 1e-6),
        )
        seeds = (_seed(ask.seed, index) for index in range(ask.count))
        samplings = tuple(replace(sampling, seed=seed) for seed in seeds)
        return Prepared(version, prompt_ids, samplings, ask.stop)

    async def write(self, prepared: Prepared) -> AsyncGenerator[Piece, None]:
        """The responses' pieces as they are written, in any order between responses. Closing it
        cancels all.

        Raises EngineBusy, NotFound (the version was unloaded meanwhile), ModelUnavailable (the
        engine stopped).
        """
        pieces: asyncio.Queue[Piece | asyncio.Task[None]] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._write_one(prepared, index, pieces.put_nowait))
            for index in range(len(prepared.samplings))
        ]
        for task in tasks:
            task.add_done_callback(pieces.put_nowait)
        running = len(tasks)
        try:
            while running:
                item = await pieces.get()
                if isinstance(item, asyncio.Task):
                    item.result()  # raises what ended it
                    running -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write_one(
        self, prepared: Prepared, index: int, put: Callable[[Piece], None]
    ) -> None:
        request = Request(prepared.prompt_ids, prepared.samplings[index], prepared.version)
        response = Response(index, self._renderer, prepared.stop)
        async with aclosing(self._engine.stream(request)) as chunks:  # closing it cancels
            async for chunk in chunks:
                piece = response.take(chunk)
                if piece.text or piece.tokens or piece.finish_reason:
                    put(piece)
                if piece.finish_reason:
                    return


class Response:
    """One response while it is written: tokens in, certain text out, each token with its text."""

    def __init__(self, index: int, renderer: PromptRenderer, stop: tuple[str, ...]) -> None:
        self._index = index
        self._renderer = renderer
        self._decoder: ResponseDecoder = renderer.decoder()
        self._text = StopText(stop)
        self._decoded = 0  # characters so far, held back ones included
        self._released = 0  # characters given out
        self._waiting: list[tuple[int, Token]] = []  # where a token's text begins, the token
        self._written = 0

    def take(self, chunk: Chunk) -> Piece:
        """What is certain with this chunk. Raises ModelUnavailable when the engine gave up."""
        if chunk.finish_reason == "cancelled":
            raise ModelUnavailable("the engine stopped before the response was finished")
        text = ""
        for token_id, logprob in zip(chunk.token_ids, chunk.logprobs, strict=True):
            text += self._read(token_id, logprob)
            if self._text.stopped:
                return self._piece(text, "stop")
        if chunk.finish_reason is not None:
            text += self._text.rest()
        return self._piece(text, chunk.finish_reason)

    def _read(self, token_id: int, logprob: float) -> str:
        self._written += 1
        if token_id in self._renderer.eos_token_ids:
            return ""
        token = Token(self._renderer.token_bytes(token_id), logprob)
        self._waiting.append((self._decoded, token))
        text = self._decoder.push((token_id,))
        self._decoded += len(text)
        return self._text.push(text)

    def _piece(self, text: str, ending: Ending | None) -> Piece:
        self._released += len(text)
        # At its natural end the response includes tokens that stand for no text of their own.
        all_out = ending is not None and not self._text.stopped
        out = [token for at, token in self._waiting if all_out or at < self._released]
        del self._waiting[: len(out)]
        return Piece(self._index, text, tuple(out), self._written, ending)


def _seed(seed: int | None, index: int) -> int | None:
    # Never negative: random.Random draws the same from -1 as from 1.
    return None if seed is None else (seed + index) % 2**64
