"""One request on its way through the engine: prompt, sampling, what was written so far.

Knows no torch, no scheduler, no transport. Invariant: a sequence keeps the version it was admitted
on to its last token.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from amends.conversation import FinishReason


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens. temperature 0 is greedy; `seed` makes the draw repeatable."""

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Request:
    """`prompt_ids` in, at most `sampling.max_tokens` out, by `version` (None: the active one)."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    version: int | None = None


@dataclass(frozen=True)
class Chunk:
    """Tokens written since the last chunk; `finish_reason` is set on the last one only.

    `logprobs` are those of `token_ids` under the raw logits at temperature 1, in float32.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    version: int
    finish_reason: FinishReason | None = None


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Sequence:
    """The engine's own mutable record of one request."""

    sequence_id: int
    request: Request
    on_chunk: Callable[[Chunk], None] = field(repr=False)
    state: State = State.WAITING
    version: int | None = None
    slot: int | None = None
    row: int | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    cancelled: bool = False

    def __post_init__(self) -> None:
        self._random = random.Random(self.request.sampling.seed)

    @property
    def prompt_len(self) -> int:
        return len(self.request.prompt_ids)

    def uniform(self) -> float:
        """The next number in [0, 1) of this sequence's own source: its draws need no neighbours."""
        return self._random.random()
