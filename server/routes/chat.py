"""The WebSocket /v1/chat: frames in, frames out.

Knows sockets and frames; what happens in a conversation is the channel's and the responder's.
Invariants: the origin is checked before the handshake is accepted, the token before anything else;
one writer per socket; a socket that ends ends no reply.
"""

import asyncio
import logging
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from anyio import to_thread
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from amends.errors import AmendsError
from amends.record import new_id
from server.channels import Channel, Listener, Resumed
from server.limits import Limited
from server.protocol import (
    BadFrame,
    Cancel,
    Error,
    Hello,
    Message,
    Shop,
    Welcome,
    parse_client_frame,
    to_text,
)
from server.replies import as_frame, reply_to
from server.routes.callers import address_of, state_of
from server.state import State
from server.transcripts import past_turns, rating_of

log = logging.getLogger(__name__)
router = APIRouter()

MAX_BAD_FRAMES: Final = 3
LAST_WORDS_S: Final = 5.0
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013


@router.websocket("/v1/chat")
async def chat(websocket: WebSocket) -> None:
    """One visitor's connection."""
    state = state_of(websocket)
    if not origin_allowed(
        websocket.headers.get("origin"),
        websocket.headers.get("host", ""),
        state.settings.allowed_origins,
    ):
        await websocket.close(POLICY_VIOLATION)  # before accept: the handshake answers 403
        return
    await websocket.accept()
    try:
        await Connection(websocket, state).run()
    except WebSocketDisconnect:
        log.debug("a client went away")


def origin_allowed(origin: str | None, host: str, allowed: tuple[str, ...]) -> bool:
    """Same host, or listed. Programs other than browsers send no origin."""
    if origin is None or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:  # "http://[x"
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and parts.netloc == host


class Connection:
    """One accepted socket."""

    def __init__(self, websocket: WebSocket, state: State) -> None:
        self._websocket = websocket
        self._state = state
        self._visitor_id = ""
        self._bad_frames = 0

    async def run(self) -> None:
        """From hello to the end."""
        listener = Listener(self._state.settings.outgoing_frames)
        channel = await self._hello(listener)
        if channel is None:
            return
        writer = asyncio.create_task(self._write(listener))
        try:
            while self._bad_frames < MAX_BAD_FRAMES:
                await self._answer(await self._receive(), channel, listener)
            listener.close(POLICY_VIOLATION)
            await asyncio.wait([writer], timeout=LAST_WORDS_S)
        finally:
            channel.leave(listener)
            writer.cancel()
            await asyncio.wait([writer])

    async def _hello(self, listener: Listener) -> Channel | None:
        """The channel that the first frame names, joined; None when it was refused."""
        try:
            async with asyncio.timeout(self._state.settings.hello_timeout_s):
                frame = parse_client_frame(await self._receive())
            if not isinstance(frame, Hello):
                raise BadFrame("bad_frame", f"expected hello as first frame, got {frame.type}")
            self._visitor_id = self._state.auth.visitor(frame.token)
            return await self._join(frame, listener)
        except BadFrame as error:
            refusal = Error(code=error.code, message=str(error))
        except TimeoutError:
            refusal = Error(code="bad_frame", message="expected hello as first frame, got nothing")
        except AmendsError as error:
            refusal = as_frame(error)
        await self._websocket.send_text(to_text(refusal))
        later = refusal.retry_after_s is not None
        await self._close(TRY_AGAIN_LATER if later else POLICY_VIOLATION)
        return None

    async def _join(self, hello: Hello, listener: Listener) -> Channel:
        store = self._state.conversations
        if hello.conversation_id is None:
            await self._limit("conversations")
            conversation = await to_thread.run_sync(store.open, self._visitor_id)
            channel = self._state.channels.of(conversation.conversation_id)
            start, missed = channel.seq, False
        else:
            read = partial(store.read_for, hello.conversation_id, self._visitor_id)
            await to_thread.run_sync(read)  # whose is it? a stranger must not touch the channel
            channel = self._state.channels.of(hello.conversation_id)
            # The position first, the turns after it: what ends in between comes as frames.
            start, missed = channel.position(hello.after_seq)
            conversation = await to_thread.run_sync(read)
        feedback = await to_thread.run_sync(
            self._state.feedback.of_conversation, conversation.conversation_id
        )
        turns = past_turns(conversation, feedback, self._visitor_id)
        rating = rating_of(feedback, self._visitor_id)

        def welcome(resumed: Resumed) -> str:
            return to_text(
                Welcome(
                    seq=resumed.seq,
                    conversation_id=conversation.conversation_id,
                    shop=self._shop(),
                    turns=tuple(t for t in turns if t.turn_id not in resumed.finished_turns),
                    rating=rating,
                    missed=resumed.missed,
                )
            )

        channel.join(listener, start, welcome, missed)
        return channel

    def _shop(self) -> Shop:
        shop = self._state.knowledge.shop
        return Shop(name=shop.name, greeting=shop.greeting)

    async def _answer(self, text: str, channel: Channel, listener: Listener) -> None:
        try:
            frame = parse_client_frame(text)
            if isinstance(frame, Hello):
                raise BadFrame("bad_frame", "expected message or cancel, got a second hello")
        except BadFrame as error:
            self._bad_frames += 1
            channel.tell(listener, Error(code=error.code, message=str(error)))
            return
        if isinstance(frame, Cancel):
            self._cancel(frame, channel, listener)
        else:
            await self._message(frame, channel)

    async def _message(self, message: Message, channel: Channel) -> None:
        if channel.repeat_accepted(message.message_id):
            return
        try:
            responder = self._state.require_policy().responder
            await self._limit("messages")
        except AmendsError as error:
            channel.publish(as_frame(error, message.message_id))
            return
        # Looked at last, for nothing awaits between here and start(): meanwhile another socket may
        # have brought this message, or another one.
        if channel.repeat_accepted(message.message_id):
            return
        if channel.reply is not None:
            text = "a response is still being written; wait for done, or cancel it"
            channel.publish(Error(code="not_now", message=text, message_id=message.message_id))
            return
        run = partial(reply_to, message, responder, channel)
        channel.start(message.message_id, new_id(), run)

    async def _limit(self, what: Limited) -> None:
        """Counts one of them. Raises TooManyRequests."""
        settings = self._state.settings
        check = partial(
            self._state.limits.check,
            (what, self._visitor_id, settings.visitor_messages_per_minute),
            (what, address_of(self._websocket), settings.address_messages_per_minute),
        )
        await to_thread.run_sync(check)

    def _cancel(self, cancel: Cancel, channel: Channel, listener: Listener) -> None:
        if channel.reply is not None and channel.reply.response_id == cancel.response_id:
            channel.reply.stop()
            return
        text = "no such response is being written"
        error = Error(code="not_found", message=text, response_id=cancel.response_id)
        channel.tell(listener, error)

    async def _receive(self) -> str:
        """The next text frame. Raises WebSocketDisconnect."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        return message.get("text") or ""

    async def _write(self, listener: Listener) -> None:
        try:
            while isinstance(frame := await listener.frames.get(), str):
                await self._websocket.send_text(frame)
            await self._close(frame)
        except WebSocketDisconnect:
            log.debug("a client went away while frames were sent")

    async def _close(self, code: int) -> None:
        if self._websocket.application_state is not WebSocketState.DISCONNECTED:
            await self._websocket.close(code)
