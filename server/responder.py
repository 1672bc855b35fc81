"""Message in, stream of text out, turn recorded.

Knows no WebSocket and no HTTP: whoever calls passes a function that takes the text. Invariants: the
message is stored before `prepare` returns; the turn is stored before `respond` returns it; one
version writes a turn from its first token to its last, the candidate's where it answers the
conversation, else the champion's; a message that was answered already is not answered anew.
"""

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

import anyio
from anyio import to_thread

from amends.activity import Activity
from amends.conversation import (
    MAX_MESSAGE_BYTES,
    Conversation,
    FinishReason,
    Origin,
    Passage,
    Sampled,
    Turn,
    prompt_turns,
)
from amends.conversation_store import ConversationStore
from amends.engine.sequence import Chunk, Request, Sampling
from amends.errors import EngineBusy, InvalidInput, StoreUnavailable
from amends.knowledge import Knowledge
from amends.prompt import MessageTooLong, Prompt, PromptRenderer
from amends.record import now_s
from server.canary import Canary
from server.languages import Languages, nothing_found, only_this_language

log = logging.getLogger(__name__)

MARK_EVERY_S: Final = 2.0
ANSWER_WITHIN_S: Final = 60.0  # then nobody waits any more: busy, or what there is by then
COME_BACK_S: Final = 5.0  # to a server that is started again
STORE_WITHIN_S: Final = 5.0  # how long a finished turn waits for a store that has gone away
STORE_AGAIN_S: Final = 0.5
HISTORY_TURNS: Final = 20  # rendering tries with one turn less until all fits: bound the tries
_TURN_IDS: Final = uuid.UUID("6e1c1b5e-8f0d-4bb1-9f3a-0a54c3b0c0de")


class EmptyMessage(InvalidInput):
    """Nothing but white space."""


class Writer(Protocol):
    """What the responder needs of an engine (amends.engine.service.EngineService)."""

    @property
    def active_version(self) -> int: ...

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]: ...


@dataclass(frozen=True)
class Draft:
    """A message that is stored and ready to be answered: by the policy, a rule, or as it was
    before.
    """

    conversation_id: str
    turn_id: str
    message: str
    origin: Origin
    passages: tuple[Passage, ...] = ()
    prompt: Prompt | None = None
    fixed: str = ""
    answered: Turn | None = None
    answered_by: int | None = None  # the version of the conversation's last turn


@dataclass
class _Written:
    """What the engine has written so far."""

    version: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason = "cancelled"


class Responder:
    """Answers messages of one shop."""

    def __init__(
        self,
        *,
        conversations: ConversationStore,
        knowledge: Knowledge,
        languages: Languages,
        renderer: PromptRenderer,
        engine: Writer,
        activity: Activity,
        passages: int,
        sampling: Sampling,
        base_hash: str,
        canary: Callable[[], Canary | None],
    ) -> None:
        self._conversations = conversations
        self._knowledge = knowledge
        self._languages = languages
        self._renderer = renderer
        self._engine = engine
        self._activity = activity
        self._passages = passages
        self._sampling = sampling
        self._base_hash = base_hash
        self._canary = canary
        self._marked_at = 0.0
        self._marking = True  # False while the store does not take the mark

    def prepare(self, conversation_id: str, message_id: str, text: str) -> Draft:
        """Checks and stores a message and gathers what its answer needs. Blocks; runs in a thread.

        Raises EmptyMessage, MessageTooLong, IdempotencyConflict (another text under this
        message_id), StoreUnavailable.
        """
        if not text.strip():
            raise EmptyMessage("expected a message with words, got an empty one")
        size = len(text.encode())
        if size > MAX_MESSAGE_BYTES:
            raise MessageTooLong(
                f"expected at most {MAX_MESSAGE_BYTES} bytes, got {size}; send a shorter message"
            )
        conversation = self._conversations.read(conversation_id)
        draft = self._draft(conversation, message_id, text)
        self._conversations.add_message(conversation_id, message_id, text)
        return draft

    async def respond(
        self,
        draft: Draft,
        emit: Callable[[str], None],
        scope: anyio.CancelScope,
        stopped: Callable[[], bool],
    ) -> Turn:
        """Writes the response, `emit`s its text as it comes, stores the turn. Cancelling `scope`
        ends it early; `stopped` says whether the visitor wanted that.

        Raises EngineBusy before any text, also where the server ends, and then stores nothing, so
        that the message may come again. StoreUnavailable when the turn could not be stored.
        """
        if draft.answered is not None:
            emit(draft.answered.response)
            return draft.answered
        if draft.prompt is None:
            emit(draft.fixed)
            counts_for = self._candidate(draft)
            version = self._engine.active_version if counts_for is None else counts_for
            turn = self._turn(draft, draft.fixed, version, "stop")
        else:
            turn = await self._write(draft, draft.prompt, emit, scope)
            if turn.finish_reason == "cancelled" and not turn.response and not stopped():
                raise EngineBusy("the server is going down; please send it again", COME_BACK_S)
        await self._store(turn)
        return turn

    async def _store(self, turn: Turn) -> None:
        """Appends the turn; a store that has gone away gets a few seconds to come back."""
        give_up_at = time.monotonic() + STORE_WITHIN_S
        while True:
            try:
                await to_thread.run_sync(self._conversations.append, turn)
                return
            except StoreUnavailable as error:
                if time.monotonic() > give_up_at:
                    raise
                log.warning("turn %s is not stored yet: %s", turn.turn_id, error)
                await anyio.sleep(STORE_AGAIN_S)

    def _draft(self, conversation: Conversation, message_id: str, text: str) -> Draft:
        turn_id = uuid.uuid5(_TURN_IDS, f"{conversation.conversation_id}/{message_id}").hex
        last = conversation.turns[-1].policy_version if conversation.turns else None
        draft = partial(Draft, conversation.conversation_id, turn_id, text, answered_by=last)
        for turn in conversation.turns:
            if turn.turn_id == turn_id:
                return draft(turn.origin, answered=turn)
        shop = self._knowledge.shop
        language = self._languages.other_than(shop.language, text)
        if language is not None:
            return draft("other_language", fixed=only_this_language(shop.language, language))
        passages = self._retrieve(conversation, text)
        if not passages:
            return draft("no_passage", fixed=nothing_found(shop.language, shop.name))
        earlier = prompt_turns(conversation.turns)
        history = [(turn.message, turn.response) for turn in earlier[-HISTORY_TURNS:]]
        prompt = self._renderer.render(shop.name, passages, history, text)
        dropped = prompt.dropped_turns + len(earlier) - len(history)
        prompt = replace(prompt, dropped_turns=dropped)
        return draft("policy", passages=passages, prompt=prompt)

    def _retrieve(self, conversation: Conversation, text: str) -> tuple[Passage, ...]:
        passages = self._knowledge.retrieve(text, self._passages)
        if not passages and conversation.turns:  # "and how much is that?" needs what went before
            together = f"{conversation.turns[-1].message} {text}"
            passages = self._knowledge.retrieve(together, self._passages)
        return passages

    async def _write(
        self,
        draft: Draft,
        prompt: Prompt,
        emit: Callable[[str], None],
        scope: anyio.CancelScope,
    ) -> Turn:
        decoder = self._renderer.decoder()
        deadline_s = time.monotonic() + ANSWER_WITHIN_S
        # Nothing is awaited between here and the engine's queue: the candidate is still loaded.
        version = self._candidate(draft)
        written = _Written(self._engine.active_version if version is None else version)
        request = Request(prompt.token_ids, self._sampling, version, deadline_s)
        with scope:
            async with aclosing(self._engine.stream(request)) as chunks:  # closing it cancels
                async for chunk in chunks:
                    await self._mark_activity()
                    self._take(chunk, decoder.push(chunk.token_ids), written, emit)
        sampled = Sampled(
            prompt_token_ids=prompt.token_ids,
            token_ids=tuple(written.token_ids),
            logprobs=tuple(written.logprobs),
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            base_hash=self._base_hash,
        )
        response = written.text.rstrip()
        return self._turn(draft, response, written.version, written.finish_reason, sampled)

    def _candidate(self, draft: Draft) -> int | None:
        """The candidate where it answers the conversation; None: whatever is active."""
        canary = self._canary()
        if canary is None or not canary.answers(draft.conversation_id, draft.answered_by):
            return None
        return canary.version

    def _take(
        self, chunk: Chunk, text: str, written: _Written, emit: Callable[[str], None]
    ) -> None:
        written.version = chunk.version
        written.token_ids += chunk.token_ids
        written.logprobs += chunk.logprobs
        if chunk.finish_reason is not None:
            written.finish_reason = chunk.finish_reason
        text = text if written.text else text.lstrip()
        if text:
            written.text += text
            emit(text)

    def _turn(
        self,
        draft: Draft,
        response: str,
        version: int,
        finish_reason: FinishReason,
        sampled: Sampled | None = None,
    ) -> Turn:
        return Turn(
            turn_id=draft.turn_id,
            conversation_id=draft.conversation_id,
            message=draft.message,
            response=response,
            policy_version=version,
            origin=draft.origin,
            passages=draft.passages,
            sampled=sampled,
            finish_reason=finish_reason,
            dropped_turns=draft.prompt.dropped_turns if draft.prompt is not None else 0,
            created_at=now_s(),
        )

    async def _mark_activity(self) -> None:
        """Now and then: a hint for the trainer, which no answer must depend on."""
        now = time.monotonic()
        if now - self._marked_at <= MARK_EVERY_S:
            return
        self._marked_at = now
        try:
            await to_thread.run_sync(self._activity.mark_visitor)
            self._marking = True
        except StoreUnavailable as error:
            if self._marking:
                log.warning("the trainer cannot be told that visitors are answered: %s", error)
            self._marking = False
