"""The bodies of the OpenAI-compatible routes: what is understood, what is refused by name, what is
answered.

Knows no policy. Invariants: null is as good as absent; nothing that would change the meaning of an
answer is ignored silently; a number or a text is never made from another type.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from amends.record import Record
from server.raw_policy import Ask, Ending

MAX_MESSAGES: Final = 256
MAX_CHOICES: Final = 8
_INT64: Final = 2**63
_IGNORED: Final = {
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "metadata",
    "service_tier",
    "parallel_tool_calls",
}
_ONLY: Final[dict[str, tuple[object, ...]]] = {  # refused but for values that change nothing
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}


def _text_of(content: object) -> object:
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        known = isinstance(part, dict) and part.keys() == {"type", "text"}
        if not known or part["type"] != "text" or not isinstance(part["text"], str):
            raise ValueError('expected parts {"type": "text", "text": …} only')
        texts.append(part["text"])
    return "".join(texts)


def _is_none(value: object) -> bool:
    return value is None


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class Wire(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


class ChatMessage(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_of)] = Field(
        description="a text, or a list of text parts"
    )


class StreamOptions(Wire):
    include_usage: bool = Field(False, description="one more chunk at the end, with the usage")
    include_obfuscation: bool = Field(False, description="accepted and not done")


class ChatRequest(Wire):
    """What POST /v1/chat/completions understands; docs/openai.md says what it refuses."""

    model: str = Field(max_length=200, description="an alias, or a version such as 'amends-v7'")
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1, description="the same; send one")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(None, ge=-_INT64, lt=_INT64)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]], BeforeValidator(_as_list)
    ] = Field([], max_length=4, description="a text, or up to four; never part of the answer")
    logprobs: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _unsupported(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, harmless in _ONLY.items():
            value = data.get(name)
            if value is not None and not any(_same(value, other) for other in harmless):
                raise PydanticCustomError(
                    "unsupported", "is not supported here; leave it out", {"param": name}
                )
        return {name: v for name, v in data.items() if name not in _ONLY and name not in _IGNORED}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            problem, param = "and max_completion_tokens differ; send one", "max_tokens"
        elif self.stream_options is not None and not self.stream:
            problem, param = "needs stream to be true", "stream_options"
        else:
            return self
        raise PydanticCustomError("inconsistent", problem, {"param": param})

    def ask(self) -> Ask:
        """The same without the wire's names."""
        return Ask(
            messages=tuple((_role(message.role), message.content) for message in self.messages),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(self.stop),
            count=self.n,
        )

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class TokenLogprob(Record):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: tuple[()] = ()  # the engine records the drawn token only


class Logprobs(Record):
    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(Record):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Record):
    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: Ending


class Usage(Record):
    """Tokens; `completion_tokens` are all that were written, end tokens included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Record):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Delta(Record):
    role: Literal["assistant"] | None = Field(None, exclude_if=_is_none)
    content: str | None = Field(None, exclude_if=_is_none)


class ChunkChoice(Record):
    index: int
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: Ending | None = None


class ChatCompletionChunk(Record):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = Field(None, exclude_if=_is_none)


class Model(Record):
    """`root` is the version that the name means now; `created` is 0 for the base model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["amends"] = "amends"
    root: str


class ModelList(Record):
    object: Literal["list"] = "list"
    data: list[Model]


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _same(value: object, other: object) -> bool:
    # True == 1 in Python; on the wire they are different things.
    return value == other and isinstance(value, bool) == isinstance(other, bool)
