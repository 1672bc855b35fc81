"""When a candidate on trial is rolled back, and when it has been tried enough.

Each field is the environment variable AMENDS_CANARY_<NAME>.
"""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class CanarySettings(BaseSettings):
    """What docs/canary.md explains."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_CANARY_", frozen=True, extra="ignore")

    approval: bool = Field(
        True, description="a candidate waits for an operator; False: it is tried at once"
    )
    share: float = Field(
        0.1, gt=0, lt=1, description="of new conversations, for a candidate tried without approval"
    )
    every_s: float = Field(60.0, gt=0, description="between two looks at a candidate on trial")
    roll_back: bool = Field(
        True, description="a candidate that does worse is withdrawn; False: only reported"
    )
    promote: bool = Field(
        False, description="a candidate found harmless becomes champion; False: an operator decides"
    )
    error_rate: float = Field(
        0.05, gt=0, lt=0.5, description="of candidates as good as the champion, so many go wrongly"
    )
    margin: float = Field(
        0.1, gt=0, le=1, description="harmless: in no kind of outcome worse by so much or more"
    )
    min_conversations: int = Field(
        100, ge=1, description="of the candidate's, before it may be called harmless"
    )
    max_conversations: int = Field(
        1000, ge=1, description="of the candidate's, after which it was tried enough"
    )
    settle_s: float = Field(
        900.0, gt=0, description="from its first message until a conversation counts, as it is then"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_conversations < self.min_conversations:
            raise ValueError(
                f"max_conversations {self.max_conversations} must be at least min_conversations "
                f"{self.min_conversations}"
            )
        return self
