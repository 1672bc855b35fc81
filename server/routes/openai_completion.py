"""Pieces of responses as one chat.completion, or as the events of a stream.

Knows no engine and no requests. Invariants: every chunk of one completion has the same id and
names the same version; a stream ends with [DONE], or with an error as its last event.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from amends.errors import AmendsError
from amends.record import Record, new_id, now_s
from server.model_names import name_of
from server.raw_policy import Ending, Piece, Token
from server.routes.openai_errors import ErrorBody, detail_of
from server.routes.openai_schema import (
    AssistantMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Delta,
    Logprobs,
    TokenLogprob,
    Usage,
)

DONE: Final = "data: [DONE]\n\n"


@dataclass
class _Gathered:
    """One response so far."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    written_tokens: int = 0
    ending: Ending = "length"


class Completion:
    """One answer to one request: `count` responses of `version` to `prompt_tokens` tokens."""

    def __init__(
        self, version: int, base_hash: str, prompt_tokens: int, count: int, logprobs: bool
    ) -> None:
        self._id = f"chatcmpl-{new_id()}"
        self._created = int(now_s())
        self._model = name_of(version)
        # The same seed gives the same answer only while this stays the same.
        self._fingerprint = f"fp_{base_hash[:12]}_v{version}"
        self._prompt_tokens = prompt_tokens
        self._responses = [_Gathered() for _ in range(count)]
        self._logprobs = logprobs

    async def whole(self, pieces: AsyncGenerator[Piece, None]) -> ChatCompletion:
        """All pieces as one body. Raises what `pieces` raises."""
        async for piece in pieces:
            self._gather(piece)
        choices = [
            Choice(
                index=index,
                message=AssistantMessage(content=response.text),
                logprobs=self._logprobs_of(response.tokens),
                finish_reason=response.ending,
            )
            for index, response in enumerate(self._responses)
        ]
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=choices,
            usage=self._usage(),
        )

    async def events(
        self, first: Piece, pieces: AsyncGenerator[Piece, None], include_usage: bool
    ) -> AsyncGenerator[str, None]:
        """Server-sent events; the first piece was waited for, so that a refusal has a status."""
        try:
            for index in range(len(self._responses)):
                yield self._chunk(index, Delta(role="assistant", content=""))
            for event in self._events_of(first):
                yield event
            async for piece in pieces:
                for event in self._events_of(piece):
                    yield event
        except AmendsError as error:
            yield _event(ErrorBody(error=detail_of(error)[1]))
            return
        if include_usage:
            yield self._send([], self._usage())
        yield DONE

    def _events_of(self, piece: Piece) -> list[str]:
        self._gather(piece)
        events = []
        if piece.text or (piece.tokens and self._logprobs):
            logprobs = self._logprobs_of(piece.tokens)
            events.append(self._chunk(piece.index, Delta(content=piece.text), logprobs))
        if piece.finish_reason is not None:
            events.append(self._chunk(piece.index, Delta(), ending=piece.finish_reason))
        return events

    def _gather(self, piece: Piece) -> None:
        response = self._responses[piece.index]
        response.text += piece.text
        response.tokens += piece.tokens
        response.written_tokens = piece.written_tokens
        response.ending = piece.finish_reason or response.ending

    def _chunk(
        self,
        index: int,
        delta: Delta,
        logprobs: Logprobs | None = None,
        ending: Ending | None = None,
    ) -> str:
        choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=ending)
        return self._send([choice])

    def _send(self, choices: list[ChunkChoice], usage: Usage | None = None) -> str:
        chunk = ChatCompletionChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=choices,
            usage=usage,
        )
        return _event(chunk)

    def _logprobs_of(self, tokens: list[Token] | tuple[Token, ...]) -> Logprobs | None:
        if not self._logprobs:
            return None
        return Logprobs(content=[_token_logprob(token) for token in tokens])

    def _usage(self) -> Usage:
        written = sum(response.written_tokens for response in self._responses)
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=written,
            total_tokens=self._prompt_tokens + written,
        )


def _token_logprob(token: Token) -> TokenLogprob:
    return TokenLogprob(
        token=_spelt(token.spelling), logprob=token.logprob, bytes=list(token.spelling)
    )


def _spelt(spelling: bytes) -> str:
    try:
        return spelling.decode()
    except UnicodeDecodeError:  # part of a character: OpenAI writes its bytes
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelling)


def _event(content: Record) -> str:
    return f"data: {content.model_dump_json()}\n\n"
