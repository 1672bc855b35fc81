"""The engine: submit, step, cancel, load, activate. A step is schedule, run, postprocess; first for
the prompts, then for the rows that write.

Knows no threads, no asyncio, no stores: whoever owns it calls it from one thread (service.py does
for the server, the trainer directly). Invariants: every submitted sequence gets exactly one last
chunk, with a finish reason; a version that was loaded answers nobody before its check is passed.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from collections.abc import Sequence as Sequences
from typing import Any

from amends.backbones import AnyBackbone
from amends.conversation import FinishReason
from amends.engine.loading import Load, OnChecked
from amends.engine.model_runner import ModelRunner
from amends.engine.peft_runner import PeftRunner
from amends.engine.prefix_cache import PrefixCache
from amends.engine.scheduler import Limits, Scheduler
from amends.engine.sequence import Chunk, Piece, Request, Sequence, State
from amends.engine.slots import Slots
from amends.engine.stats import EngineStats, copies
from amends.errors import AdapterRefused, EngineBusy, InvalidInput
from amends.lora import Lora, LoraShape
from amends.peft_backbone import PeftBackbone

Packed = Any  # an adapter as this engine's runner wants it: only the runner looks inside
SLOTS = 5  # base, champion, previous, candidate, incoming


class Engine:
    """One model, many sequences, several versions."""

    def __init__(
        self,
        backbone: AnyBackbone,
        lora_shape: LoraShape,
        end_tokens: frozenset[int],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end_tokens = end_tokens
        self._limits = limits
        self.slots = Slots(SLOTS)
        self._runner = _runner(backbone, lora_shape, limits)
        self._scheduler = Scheduler(limits, self.slots, PrefixCache(self._runner.blocks))
        self._loads: deque[Load] = deque()
        self._next_id = 0

    def submit(
        self,
        request: Request,
        on_chunk: Callable[[Chunk], None],
        arrived_s: float | None = None,
    ) -> Sequence:
        """Queue a request that arrived then (None: now); `on_chunk` is called from step().

        Raises EngineBusy, InvalidInput.
        """
        sequence = self._sequence(request, on_chunk, arrived_s)
        self._scheduler.add(sequence)
        return sequence

    def load(
        self,
        version: int,
        adapter: Packed,
        golden_prompt: tuple[int, ...],
        on_checked: OnChecked,
    ) -> None:
        """Write an adapter into a free slot; a later step reads the golden prompt with it, beside
        what runs, and tells `on_checked` whether the version can answer now.

        Raises EngineBusy: no free slot, or it is being loaded. What runs and what is active stays
        untouched.
        """
        if self.slots.revive(version):
            on_checked(None)
            return
        slot = self._place(version, adapter)
        self._loads.append(Load(version, slot, golden_prompt, on_checked))

    def pack(self, lora: Lora) -> Packed:
        """As load() takes it. Any thread may: it touches nothing of the engine's."""
        return self._runner.pack(lora)

    def write(self, version: int, lora: Lora) -> None:
        """Write an adapter into a free slot unchecked: the trainer's own, which may be new."""
        self._place(version, self.pack(lora))
        self.slots.admit(version)

    def unload(self, version: int) -> None:
        """The version answers no new request; what it writes is finished, then its slot is free.
        NotFound for the active version and the base model."""
        self.slots.drop(version)
        for load in [load for load in self._loads if load.version == version]:
            self._loads.remove(load)
            load.on_checked(AdapterRefused(f"version {version} was unloaded before its check"))
        self._scheduler.prefixes.keep_only(self.slots.versions())

    def activate(self, version: int) -> None:
        """New requests use this version from the next admission on."""
        self._scheduler.counters.swaps += version != self.slots.active_version
        self.slots.activate(version)

    def step(self) -> bool:
        """Admit, run, hand out tokens. False when there was nothing to do."""
        self._end_cancelled_and_overdue()
        plan = self._scheduler.prefill(self._clock())
        for block in plan.blocks:
            self._runner.restore(block)
        for move in plan.moves:
            self._runner.move(move)
        if plan.pieces:
            self._postprocess(plan.pieces, *self._runner.prefill(plan.pieces))
        decoding = self._scheduler.decode()
        load = self._loads[0] if self._loads else None
        if decoding or load is not None:
            probe = load.pieces if load is not None else []
            tokens, logprobs, effect = self._runner.decode(decoding, probe)
            self._postprocess(decoding, tokens, logprobs)
            if load is not None:
                self._judge(load, effect)
        return bool(plan.pieces or decoding or load is not None)

    def generate(
        self, requests: Sequences[Request], between_steps: Callable[[], None] | None = None
    ) -> list[Sequence]:
        """Run these requests to their end, in order of `requests` (the trainer's rollouts)."""
        waiting = [self._sequence(request, _ignore) for request in requests]
        pending = list(reversed(waiting))
        while pending or any(s.state is not State.FINISHED for s in waiting):
            room = min(self._limits.max_running, self._limits.max_waiting)
            while pending and len(self._scheduler.waiting) < room:
                self._scheduler.add(pending.pop())
            if between_steps is not None:
                between_steps()
            self.step()
        return waiting

    def abandon(self) -> None:
        """End everything that waits or runs, as cancelled: there will be no further step."""
        while self._loads:
            self._loads.popleft().on_checked(EngineBusy("the engine has stopped", 30.0))
        for sequence in (*self._scheduler.waiting, *self._scheduler.rows.running):
            if sequence.state is not State.FINISHED:
                self._tell_end(sequence, (), (), "cancelled")

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        return len(self._scheduler.rows.running)

    @property
    def stats(self) -> EngineStats:
        """A snapshot; any thread may take it."""
        # Each copy is one call that no other thread of Python can interrupt.
        counters, scheduler = self._scheduler.counters, self._scheduler
        running, waiting = tuple(scheduler.rows.running), tuple(scheduler.waiting)
        active = self.slots.active_version
        return EngineStats(
            running_by_version=Counter(s.version for s in running if s.version is not None),
            waiting=len(waiting),
            waiting_versions=frozenset(active if s.version is None else s.version for s in waiting),
            rows=self._limits.max_running,
            versions=self.slots.versions(),
            slots=SLOTS,
            prompt_tokens=dict(counters.prompt_tokens),
            reused_tokens=dict(counters.reused_tokens),
            written_tokens=dict(counters.written_tokens),
            finished=dict(counters.finished),
            unserved=dict(counters.unserved),
            queue_s=copies(counters.queue_s),
            first_token_s=copies(counters.first_token_s),
            inter_token_s=copies(counters.inter_token_s),
            request_s=copies(counters.request_s),
            swaps=counters.swaps,
        )

    def _place(self, version: int, adapter: Packed) -> int:
        slot = self.slots.place(version)
        # Neither what the slot held nor an earlier `version` may be found in the prefix cache.
        self._scheduler.prefixes.keep_only(self.slots.versions())
        self._runner.write_slot(slot, adapter)
        return slot

    def _judge(self, load: Load, effect: float) -> None:
        self._loads.remove(load)
        refusal = load.refusal(effect)
        if refusal is None:
            self.slots.admit(load.version)
        else:
            self.slots.drop(load.version)
        load.on_checked(refusal)

    def _sequence(
        self,
        request: Request,
        on_chunk: Callable[[Chunk], None],
        arrived_s: float | None = None,
    ) -> Sequence:
        needed = len(request.prompt_ids) + request.sampling.max_tokens
        if not request.prompt_ids or needed > self._limits.max_positions:
            raise InvalidInput(
                f"expected a prompt that with its response fits {self._limits.max_positions} "
                f"tokens, got {len(request.prompt_ids)} + {request.sampling.max_tokens}"
            )
        self._next_id += 1
        now_s = self._clock() if arrived_s is None else arrived_s
        return Sequence(self._next_id, request, on_chunk, now_s)

    def _end_cancelled_and_overdue(self) -> None:
        for sequence in self._scheduler.cancelled():
            self._finish(sequence, (), (), "cancelled")
        for sequence in self._scheduler.overdue(self._clock()):
            sequence.expired = not sequence.token_ids
            self._finish(sequence, (), (), "cancelled" if sequence.expired else "length")

    def _postprocess(
        self, pieces: Sequences[Piece], tokens: list[int], logprobs: list[float]
    ) -> None:
        drawing = [piece.sequence for piece in pieces if piece.draws]
        for piece in pieces:
            piece.sequence.computed = piece.end
        now_s, counters = self._clock(), self._scheduler.counters
        for sequence, token, logprob in zip(drawing, tokens, logprobs, strict=True):
            assert sequence.version is not None
            counters.wrote(sequence.version, not sequence.token_ids, now_s - sequence.wrote_s)
            sequence.wrote_s = now_s
            sequence.token_ids.append(token)
            sequence.logprobs.append(logprob)
            if token in self._end_tokens:
                self._finish(sequence, (token,), (logprob,), "stop")
            elif len(sequence.token_ids) >= sequence.request.sampling.max_tokens:
                self._finish(sequence, (token,), (logprob,), "length")
            else:
                sequence.on_chunk(Chunk((token,), (logprob,), sequence.version))

    def _finish(
        self,
        sequence: Sequence,
        tokens: tuple[int, ...],
        logprobs: tuple[float, ...],
        reason: FinishReason,
    ) -> None:
        self._count_end(sequence, reason)
        for block in self._scheduler.keep(sequence):
            self._runner.save(block)
        move = self._scheduler.finish(sequence, reason)
        self._tell_end(sequence, tokens, logprobs, reason)
        if move is not None:
            self._runner.move(move)

    def _count_end(self, sequence: Sequence, reason: FinishReason) -> None:
        counters = self._scheduler.counters
        if sequence.expired:
            counters.not_served("deadline")
        elif sequence.row is None or sequence.version is None:
            counters.not_served("gave_up")
        else:
            counters.ended(sequence.version, reason, self._clock() - sequence.arrived_s)

    def _tell_end(
        self,
        sequence: Sequence,
        tokens: tuple[int, ...],
        logprobs: tuple[float, ...],
        reason: FinishReason,
    ) -> None:
        version = self.slots.active_version if sequence.version is None else sequence.version
        sequence.on_chunk(Chunk(tokens, logprobs, version, reason))


def _runner(
    backbone: AnyBackbone, lora_shape: LoraShape, limits: Limits
) -> ModelRunner | PeftRunner:
    rows, kept_bytes = limits.max_running, limits.prefix_cache_bytes
    if isinstance(backbone, PeftBackbone):
        return PeftRunner(backbone, rows, SLOTS, kept_bytes)
    return ModelRunner(backbone, lora_shape, rows, SLOTS, kept_bytes)


def _ignore(chunk: Chunk) -> None:
    return None
