"""What the next step reads: first come, first served; pure decisions.

Knows no torch, no threads, no clock. A step reads at most `prefill_tokens` of prompts, or
`beside_tokens` while somebody waits for his next token, in order of arrival, and then one token of
every row that writes: a long prompt delays the streams that run by a piece of itself, never by the
whole, and nobody is preferred because his prompt is known. What
another row or the prefix cache holds of a prompt is copied, not read.

Invariants: a sequence holds a row exactly while it runs, and a slot reference from the moment its
version is known (admission, or at once where the request names one) to its end; waiting sequences
are bounded; the sequence that came first of those that read always moves on.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from amends.conversation import FinishReason
from amends.engine.kv_cache import Move, Rows
from amends.engine.prefix_cache import BLOCK_TOKENS, BlockCopy, PrefixCache
from amends.engine.sequence import Piece, Sequence, State
from amends.engine.slots import Slots
from amends.engine.stats import Counters
from amends.errors import EngineBusy

QUEUE_RETRY_S = 2.0


@dataclass(frozen=True)
class Limits:
    """Bounds of one engine."""

    max_running: int = 32
    max_waiting: int = 128
    prefill_tokens: int = 512  # prompt tokens per step
    beside_tokens: int = 512  # at most, while a stream waits for its next token
    max_positions: int = 1024
    prefix_cache_bytes: int = 0  # 0: a prompt is shared only with rows that still run


@dataclass(frozen=True)
class Plan:
    """Copies to make in this order (blocks, then rows), and pieces of prompts to read."""

    blocks: list[BlockCopy] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)


@dataclass
class Scheduler:
    limits: Limits
    slots: Slots
    prefixes: PrefixCache
    waiting: deque[Sequence] = field(default_factory=deque)
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.rows = Rows(self.limits.max_running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises EngineBusy (queue full), NotFound (its version is not
        loaded)."""
        if len(self.waiting) >= self.limits.max_waiting:
            self.counters.not_served("queue_full")
            raise EngineBusy(f"{len(self.waiting)} requests are waiting already", QUEUE_RETRY_S)
        if sequence.request.version is not None:
            self._bind(sequence)
        self.waiting.append(sequence)

    def cancelled(self) -> list[Sequence]:
        """Sequences whose caller gave up since the last step."""
        return [s for s in (*self.waiting, *self.rows.running) if s.cancelled]

    def overdue(self, now_s: float) -> list[Sequence]:
        """Sequences whose deadline has passed."""
        return [
            s
            for s in (*self.waiting, *self.rows.running)
            if s.request.deadline_s is not None and s.request.deadline_s <= now_s
        ]

    def prefill(self, now_s: float) -> Plan:
        """Admit what fits, and choose what this step reads of the prompts. The copies must be made
        at once."""
        plan = Plan()
        streaming = any(s.unread == 1 for s in self.rows.running)
        room = self.limits.prefill_tokens
        if streaming:
            room = min(room, self.limits.beside_tokens)
        for sequence in self._readers(now_s):
            self._reuse(sequence, plan)
            if sequence.unread == 1 or self._follows(sequence):
                continue  # decode() reads the last one; what is followed will be copied
            end = min(sequence.computed + room, sequence.length)
            plan.pieces.append(Piece(sequence, sequence.computed, end))
            room -= end - sequence.computed
            if room == 0:
                break
        return plan

    def decode(self) -> list[Piece]:
        """One token of each row up to the last that has only one left: rows 0..n-1, in this order.

        A row among them that still reads its prompt gets on by a token, so that the batch stays a
        slice of the cache.
        """
        running = self.rows.running
        ready = [row for row, sequence in enumerate(running) if sequence.unread == 1]
        return [Piece(s, s.computed, s.computed + 1) for s in running[: max(ready, default=-1) + 1]]

    def keep(self, sequence: Sequence) -> list[BlockCopy]:
        """What to copy from the row of a sequence that is about to finish into the prefix cache."""
        if sequence.row is None or sequence.version not in self.slots.versions():
            return []
        assert sequence.version is not None
        tokens = (*sequence.request.prompt_ids, *sequence.token_ids)[: sequence.computed]
        added = self.prefixes.add(sequence.version, tokens)
        return [BlockCopy(block, sequence.row, start) for block, start in added]

    def finish(self, sequence: Sequence, reason: FinishReason) -> Move | None:
        """The sequence is over, whether it ran or waited; the move must be carried out at once."""
        move = None
        if sequence.slot is not None:
            self.slots.release(sequence.slot)
        if sequence.state is State.RUNNING:
            move = self.rows.give_back(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.state = State.FINISHED
        sequence.finish_reason = reason
        return move

    def _readers(self, now_s: float) -> Iterator[Sequence]:
        """Who reads a prompt, in order of arrival; who waits is admitted when his turn comes."""
        reading = [s for s in self.rows.running if s.unread > 1]
        yield from sorted(reading, key=lambda s: s.sequence_id)
        while self.waiting and self.rows.free:
            sequence = self.waiting.popleft()
            if sequence.slot is None:
                self._bind(sequence)
            assert sequence.version is not None
            sequence.state = State.RUNNING
            self.rows.take(sequence)
            waited_s = now_s - sequence.arrived_s
            self.counters.admitted(sequence.version, sequence.prompt_len, waited_s)
            yield sequence

    def _reuse(self, sequence: Sequence, plan: Plan) -> None:
        """Copy the longest beginning of the prompt that a row or the cache holds."""
        assert sequence.row is not None and sequence.version is not None
        others = [(min(_shared(o, sequence), o.computed), o.row) for o in self.rows.running]
        length, source = max(others, key=lambda found: found[0])
        blocks = self.prefixes.find(sequence.version, sequence.request.prompt_ids[:-1])
        cached = len(blocks) * BLOCK_TOKENS
        if max(length, cached) <= sequence.computed:
            return
        if cached > length:
            starts = range(0, cached, BLOCK_TOKENS)
            copies = zip(blocks, starts, strict=True)
            plan.blocks.extend(BlockCopy(b, sequence.row, start) for b, start in copies)
        else:
            assert source is not None
            plan.moves.append(Move(source, sequence.row, length))
        self.counters.reused(sequence.version, max(length, cached) - sequence.computed)
        sequence.computed = max(length, cached)

    def _follows(self, sequence: Sequence) -> bool:
        """Whether an earlier row is reading at least half of what this one lacks."""
        return any(
            other.sequence_id < sequence.sequence_id
            and other.unread > 1
            and 2 * (_shared(other, sequence) - sequence.computed) >= sequence.unread
            for other in self.rows.running
        )

    def _bind(self, sequence: Sequence) -> None:
        sequence.version, sequence.slot = self.slots.acquire(sequence.request.version)


def _shared(other: Sequence, sequence: Sequence) -> int:
    """How many of the prompt's first tokens both have, under one version; the last is always
    read, since the first token is drawn after it."""
    if other is sequence or other.version != sequence.version:
        return 0
    a, b = other.request.prompt_ids, sequence.request.prompt_ids
    low, high = 0, min(len(a), len(b) - 1)
    while low < high:  # compares slices: a loop over tokens would be slower
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
