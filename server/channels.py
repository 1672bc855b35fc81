"""What is happening in the conversations right now: numbered frames, who listens, the reply being
written.

Knows no socket (listeners are bounded queues of text) and no store. Invariants: a channel numbers
its frames without gap, from a base above every number that an earlier channel of the conversation
gave out, so a number means one frame or nothing; one reply at a time; a listener that lags is
dropped, never waited for; a reply goes on without listeners.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from server.protocol import Accepted, Done, Error, Event, to_text

log = logging.getLogger(__name__)

IDLE_S: Final = 600.0  # how long a conversation without listeners keeps its frames
SWEEP_S: Final = 30.0
LAGS: Final = 1013  # "try again later": the client may reconnect and resume


class Listener:
    """One connection's outgoing frames; a number at the end is the code to close with."""

    def __init__(self, limit: int) -> None:
        self.frames: asyncio.Queue[str | int] = asyncio.Queue()
        self._limit = limit
        self.dropped = False

    def put(self, text: str) -> bool:
        """False when the listener had to be dropped."""
        if self.frames.qsize() >= self._limit:
            self.dropped = True
            while not self.frames.empty():
                self.frames.get_nowait()
            self.close(LAGS)
            return False
        self.frames.put_nowait(text)
        return True

    def catch_up(self, texts: Sequence[str]) -> None:
        """What it has missed, which the channel's log bounds; it may lag by as much more."""
        self._limit += len(texts)
        for text in texts:
            self.frames.put_nowait(text)

    def close(self, code: int) -> None:
        """Ends the connection after what is queued."""
        self.frames.put_nowait(code)


@dataclass(eq=False)
class Reply:
    """A response that is being written."""

    message_id: str
    response_id: str
    after_seq: int  # the frames of this reply start after this one
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    accepted: Accepted | None = None
    task: asyncio.Task[None] | None = None
    stopped: bool = False  # by the visitor; a server that ends cancels the scope alone

    def stop(self) -> None:
        """The visitor has read enough."""
        self.stopped = True
        self.scope.cancel()


@dataclass(frozen=True)
class Resumed:
    """From where a listener goes on: its frames since then are queued already."""

    seq: int
    missed: bool
    finished_turns: frozenset[str]  # turn ids that those frames announce


class Channel:
    """The live side of one conversation."""

    def __init__(self, conversation_id: str, log_frames: int) -> None:
        self.conversation_id = conversation_id
        self.reply: Reply | None = None
        # No conversation writes a frame every millisecond: an earlier channel's numbers are lower.
        self.seq = int(time.time() * 1000)
        self.idle_since = time.monotonic()
        self.listeners: set[Listener] = set()
        self._log: deque[tuple[int, Event, str]] = deque(maxlen=log_frames)

    def publish(self, frame: Event) -> None:
        """Numbers the frame, keeps it for a while, hands it to every listener."""
        self.seq += 1
        frame = self._stamped(frame)
        text = to_text(frame)
        self._log.append((self.seq, frame, text))
        self.listeners = {listener for listener in self.listeners if listener.put(text)}

    def tell(self, listener: Listener, error: Error) -> None:
        """An error for one listener: takes no number, is not kept, and no other window sees it."""
        if not listener.put(to_text(self._stamped(error))):
            self.listeners.discard(listener)

    def start(
        self, message_id: str, response_id: str, run: Callable[[Reply], Coroutine[Any, Any, None]]
    ) -> None:
        """Begins a reply; the caller has checked that there is none."""
        reply = Reply(message_id, response_id, self.seq)
        self.reply = reply
        reply.task = asyncio.create_task(run(reply), name=f"reply {response_id}")
        reply.task.add_done_callback(lambda task: self._ended(reply, task))

    def accept(self, frame: Accepted) -> None:
        """Tells that the message of the running reply is stored."""
        if self.reply is not None:
            self.reply.accepted = frame
        self.publish(frame)

    def repeat_accepted(self, message_id: str) -> bool:
        """Tells it again if this is the message being answered; False when it is another one."""
        if self.reply is None or self.reply.message_id != message_id:
            return False
        if self.reply.accepted is not None:  # else it comes by itself
            self.publish(self.reply.accepted)
        return True

    def position(self, after_seq: int | None) -> tuple[int, bool]:
        """Where a client that saw `after_seq` goes on, and whether it has missed frames."""
        if after_seq is not None and self._log and self._log[0][0] <= after_seq + 1 <= self.seq + 1:
            return after_seq, False
        return (self.reply.after_seq if self.reply else self.seq), True

    def join(
        self, listener: Listener, start: int, welcome: Callable[[Resumed], str], missed: bool
    ) -> None:
        """Adds a listener: its welcome first, then the frames after `start`, then what comes."""
        since = [(frame, text) for seq, frame, text in self._log if seq > start]
        if self.seq - start > len(since):  # fell out of the log meanwhile
            start, missed, since = self.seq, True, []
        done = frozenset(frame.turn_id for frame, _ in since if isinstance(frame, Done))
        listener.catch_up([welcome(Resumed(start, missed, done)), *(text for _, text in since)])
        self.listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        self.idle_since = time.monotonic()

    @property
    def idle_s(self) -> float:
        busy = self.listeners or self.reply is not None
        return 0.0 if busy else time.monotonic() - self.idle_since

    def _stamped(self, frame: Event) -> Event:
        stamp = {"seq": self.seq, "conversation_id": self.conversation_id}
        return frame.model_copy(update=stamp)

    def _ended(self, reply: Reply, task: asyncio.Task[None]) -> None:
        self.reply = None
        self.idle_since = time.monotonic()
        if task.cancelled() or task.exception() is None:
            return
        log.error("a reply ended by an unexpected error", exc_info=task.exception())
        self.publish(
            Error(
                code="internal",
                message="the response could not be finished; please send the message again",
                message_id=reply.message_id,
                response_id=reply.response_id,
            )
        )


class Channels:
    """The channels of conversations that somebody listens to, or did a while ago."""

    def __init__(self, log_frames: int) -> None:
        self._log_frames = log_frames
        self._channels: dict[str, Channel] = {}
        self._swept_at = time.monotonic()

    def of(self, conversation_id: str) -> Channel:
        self._sweep()
        if conversation_id not in self._channels:
            self._channels[conversation_id] = Channel(conversation_id, self._log_frames)
        channel = self._channels[conversation_id]
        channel.idle_since = time.monotonic()  # whoever asked is about to join
        return channel

    @property
    def listening(self) -> int:
        """How many listen; any thread may ask."""
        return sum(len(channel.listeners) for channel in list(self._channels.values()))

    async def close(self, grace_s: float) -> None:
        """Lets running replies finish for a while, then ends them; each stores its turn."""
        replies = [channel.reply for channel in self._channels.values() if channel.reply]
        tasks = [reply.task for reply in replies if reply.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
            for reply in replies:
                reply.scope.cancel()
            await asyncio.wait(tasks)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept_at > SWEEP_S:
            self._swept_at = now
            self._channels = {i: c for i, c in self._channels.items() if c.idle_s < IDLE_S}
