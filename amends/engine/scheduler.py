"""Who runs in the next step: first come, first admitted; pure decisions.

Knows no torch, no threads, no time. Invariants: a sequence holds a row exactly while it runs, and
a slot reference from the moment its version is known (admission, or at once where the request
names one) to its end; waiting sequences are bounded.
"""

from collections import deque
from dataclasses import dataclass, field

from amends.conversation import FinishReason
from amends.engine.kv_cache import Move, Rows
from amends.engine.sequence import Sequence, State
from amends.engine.slots import Slots
from amends.errors import EngineBusy


@dataclass(frozen=True)
class Limits:
    """Bounds of one engine."""

    max_running: int = 32
    max_waiting: int = 128
    prefill_tokens: int = 1024  # new prompt tokens per step, so that running streams keep flowing
    max_positions: int = 1024


@dataclass(frozen=True)
class Plan:
    """One step: prompts to read, and sequences to give one more token."""

    prefill: tuple[Sequence, ...]
    decode: tuple[Sequence, ...]


@dataclass
class Scheduler:
    limits: Limits
    slots: Slots
    waiting: deque[Sequence] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.rows = Rows(self.limits.max_running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises EngineBusy (queue full), NotFound (its version is not
        loaded)."""
        if len(self.waiting) >= self.limits.max_waiting:
            raise EngineBusy(f"{len(self.waiting)} requests are waiting already", retry_after_s=2.0)
        if sequence.request.version is not None:
            self._bind(sequence)
        self.waiting.append(sequence)

    def cancelled(self) -> list[Sequence]:
        """Sequences whose caller gave up since the last step."""
        waiting = [s for s in self.waiting if s.cancelled]
        return waiting + [s for s in self.rows.running if s.cancelled]

    def schedule(self) -> Plan:
        """Admit what fits, bind it to its version, and continue everything that runs."""
        decode = tuple(self.rows.running)
        admitted: list[Sequence] = []
        tokens = 0
        while self.waiting and self.rows.free:
            tokens += self.waiting[0].prompt_len
            if admitted and tokens > self.limits.prefill_tokens:
                break
            sequence = self.waiting.popleft()
            if sequence.slot is None:
                self._bind(sequence)
            sequence.state = State.RUNNING
            self.rows.take(sequence)
            admitted.append(sequence)
        return Plan(tuple(admitted), decode)

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

    def _bind(self, sequence: Sequence) -> None:
        sequence.version, sequence.slot = self.slots.acquire(sequence.request.version)
