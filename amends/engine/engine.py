"""The engine: submit, step, cancel, load, activate. A step is schedule, run, postprocess.

Knows no threads, no asyncio, no stores: whoever owns it calls it from one thread (service.py does
for the server, the trainer directly). Invariant: every submitted sequence gets exactly one last
chunk, with a finish reason.
"""

import math
from collections.abc import Callable
from collections.abc import Sequence as Sequences

from amends.backbone import Backbone
from amends.conversation import FinishReason
from amends.engine.model_runner import ModelRunner
from amends.engine.scheduler import Limits, Scheduler
from amends.engine.sequence import Chunk, Request, Sequence, State
from amends.engine.slots import Slots
from amends.errors import AdapterRefused, InvalidInput
from amends.lora import Lora, LoraShape

SLOTS = 5  # base, champion, previous, candidate, incoming


class Engine:
    """One model, many sequences, several versions."""

    def __init__(
        self,
        backbone: Backbone,
        lora_shape: LoraShape,
        end_tokens: frozenset[int],
        limits: Limits,
    ) -> None:
        self._end_tokens = end_tokens
        self._limits = limits
        self.slots = Slots(SLOTS)
        self._scheduler = Scheduler(limits, self.slots)
        self._runner = ModelRunner(backbone, lora_shape, limits.max_running, SLOTS)
        self._next_id = 0

    def submit(self, request: Request, on_chunk: Callable[[Chunk], None]) -> Sequence:
        """Queue a request; `on_chunk` is called from step(). Raises EngineBusy, InvalidInput."""
        self._require_room(request)
        self._next_id += 1
        sequence = Sequence(self._next_id, request, on_chunk)
        self._scheduler.add(sequence)
        return sequence

    def load(self, version: int, lora: Lora, probe: tuple[int, ...]) -> None:
        """Write an adapter into a free slot and check on `probe` tokens that it acts.

        Raises AdapterRefused (it changes nothing, or makes NaN), EngineBusy (no free slot). What
        runs and what is active stays untouched.
        """
        slot = self.write(version, lora)
        effect = self._runner.effect(slot, probe)
        if effect == 0.0 or not math.isfinite(effect):
            self.slots.drop(version)
            raise AdapterRefused(
                f"version {version}: expected it to change the golden prompt's log-probabilities "
                f"by a finite amount, got {effect} nats"
            )

    def write(self, version: int, lora: Lora) -> int:
        """Write an adapter into a free slot unchecked: the trainer's own, which may be new. The
        slot."""
        slot = self.slots.place(version)
        self._runner.write_slot(slot, lora)
        return slot

    def activate(self, version: int) -> None:
        """New requests use this version from the next admission on."""
        self.slots.activate(version)

    def step(self) -> bool:
        """Admit, run, hand out tokens. False when there was nothing to do."""
        for sequence in self._scheduler.cancelled():
            self._finish(sequence, (), (), "cancelled")
        plan = self._scheduler.schedule()
        if plan.prefill:
            self._postprocess(plan.prefill, *self._runner.prefill(plan.prefill))
        decoding = tuple(s for s in plan.decode if s.state is State.RUNNING)
        if decoding:
            self._postprocess(decoding, *self._runner.decode(decoding))
        return bool(plan.prefill or decoding)

    def generate(
        self, requests: Sequences[Request], between_steps: Callable[[], None] | None = None
    ) -> list[Sequence]:
        """Run these requests to their end, in order of `requests` (the trainer's rollouts)."""
        for request in requests:
            self._require_room(request)
        waiting = [Sequence(0, request, _ignore) for request in requests]
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
        for sequence in (*self._scheduler.waiting, *self._scheduler.rows.running):
            if sequence.state is not State.FINISHED:
                self._tell_end(sequence, (), (), "cancelled")

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        return len(self._scheduler.rows.running)

    def _require_room(self, request: Request) -> None:
        needed = len(request.prompt_ids) + request.sampling.max_tokens
        if not request.prompt_ids or needed > self._limits.max_positions:
            raise InvalidInput(
                f"expected a prompt that with its response fits {self._limits.max_positions} "
                f"tokens, got {len(request.prompt_ids)} + {request.sampling.max_tokens}"
            )

    def _postprocess(
        self, sequences: tuple[Sequence, ...], tokens: list[int], logprobs: list[float]
    ) -> None:
        for sequence, token, logprob in zip(sequences, tokens, logprobs, strict=True):
            sequence.token_ids.append(token)
            sequence.logprobs.append(logprob)
            if token in self._end_tokens:
                self._finish(sequence, (token,), (logprob,), "stop")
            elif len(sequence.token_ids) >= sequence.request.sampling.max_tokens:
                self._finish(sequence, (token,), (logprob,), "length")
            else:
                assert sequence.version is not None
                sequence.on_chunk(Chunk((token,), (logprob,), sequence.version))

    def _finish(
        self,
        sequence: Sequence,
        tokens: tuple[int, ...],
        logprobs: tuple[float, ...],
        reason: FinishReason,
    ) -> None:
        move = self._scheduler.finish(sequence, reason)
        self._tell_end(sequence, tokens, logprobs, reason)
        if move is not None:
            self._runner.move(move)

    def _tell_end(
        self,
        sequence: Sequence,
        tokens: tuple[int, ...],
        logprobs: tuple[float, ...],
        reason: FinishReason,
    ) -> None:
        version = self.slots.active_version if sequence.version is None else sequence.version
        sequence.on_chunk(Chunk(tokens, logprobs, version, reason))


def _ignore(chunk: Chunk) -> None:
    return None
