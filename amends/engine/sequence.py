"""One request on its way through the engine: prompt, sampling, what was written so far.

Knows no torch, no scheduler, no transport. Invariants: a sequence keeps the version it was admitted
on to its last token; the row's first `computed` positions are those of its first tokens.
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
    """`prompt_ids` in, at most `sampling.max_tokens` out, by `version` (None: the active one).

    `deadline_s` is a time of time.monotonic(). Whoever has no token by then is turned away, like a
    request that finds the queue full; whoever has some keeps them and ends as 'length'.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    version: int | None = None
    deadline_s: float | None = None


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
    """The engine's own mutable record of one request; ids grow in order of arrival."""

    sequence_id: int
    request: Request
    on_chunk: Callable[[Chunk], None] = field(repr=False)
    arrived_s: float = 0.0  # by the engine's clock
    state: State = State.WAITING
    version: int | None = None
    slot: int | None = None
    row: int | None = None
    computed: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    cancelled: bool = False
    expired: bool = False  # its deadline passed before its first token

    def __post_init__(self) -> None:
        self._random = random.Random(self.request.sampling.seed)
        self.wrote_s = self.arrived_s  # when its last token was written, or it arrived

    @property
    def prompt_len(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def length(self) -> int:
        """Tokens of the prompt and of what was written."""
        return self.prompt_len + len(self.token_ids)

    @property
    def unread(self) -> int:
        """Tokens that the model has not read yet; when it reads the last one, it writes the
        next."""
        return self.length - self.computed

    def uniform(self) -> float:
        """The next number in [0, 1) of this sequence's own source: its draws need no neighbours."""
        return self._random.random()


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `end` (exclusive) of a sequence, all read in one forward."""

    sequence: Sequence
    start: int
    end: int

    @property
    def token_ids(self) -> tuple[int, ...]:
        prompt = self.sequence.request.prompt_ids
        if self.end <= len(prompt):
            return prompt[self.start : self.end]
        return (*prompt, *self.sequence.token_ids)[self.start : self.end]

    @property
    def draws(self) -> bool:
        """Whether the sequence's next token is drawn after it."""
        return self.end == self.sequence.length
