"""Passage, Turn, Conversation: what was said, as frozen values.

Knows no store, no model, no wire. Invariants: a turn is written by one policy version from its
first token to its last; token ids and log-probabilities have the same length.
"""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from amends.record import Record

MAX_MESSAGE_BYTES = 16 * 1024

Origin = Literal["policy", "no_passage", "other_language"]
FinishReason = Literal["stop", "length", "cancelled"]


class Passage(Record):
    """A piece of the shop's documents, as it stood when the answer was written."""

    passage_id: str
    title: str
    text: str
    source: str = Field(description="file or address a visitor may be shown")


class Sampled(Record):
    """What the engine recorded while writing a response (absent where a rule wrote it)."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = Field(
        description="of token_ids under the raw logits, temperature 1"
    )
    temperature: float
    top_p: float
    base_hash: str = Field("", description="of the base model, whose tokens these are")

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(f"{len(self.token_ids)} tokens but {len(self.logprobs)} logprobs")
        return self


class Turn(Record):
    """A visitor's message and the assistant's response: what feedback points at."""

    schema_version: Literal[1] = 1
    turn_id: str
    conversation_id: str
    message: str
    response: str
    policy_version: int = Field(ge=0, description="0 is the base model without adapter")
    origin: Origin = Field(description="'policy', or the rule that answered instead of the policy")
    passages: tuple[Passage, ...] = ()
    sampled: Sampled | None = None
    finish_reason: FinishReason = "stop"
    dropped_turns: int = Field(0, ge=0, description="earlier turns the context had no room for")
    created_at: float = Field(description="seconds since the epoch")


def prompt_turns(turns: Iterable[Turn]) -> list[Turn]:
    """What a prompt may show of earlier turns: those that the policy wrote something in. A rule's
    texts stay out: a small model that has read "I could not find that" says it again.
    """
    return [turn for turn in turns if turn.origin == "policy" and turn.response]


class Conversation(Record):
    """An ordered exchange with one visitor."""

    schema_version: Literal[1] = 1
    conversation_id: str
    visitor_id: str
    opened_at: float
    turns: tuple[Turn, ...] = ()
