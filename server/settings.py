"""The server's own settings: where it listens, who may come, how much they may ask for.

Knows nothing that the worker must agree on (amends.settings). Read once by the composition root.
"""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ServerSettings(BaseSettings):
    """Each field is the environment variable AMENDS_SERVER_<NAME>, but for the staff token."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_SERVER_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8765, ge=0, le=65535, description="0: any free port")
    staff_token: str | None = Field(
        None,
        min_length=16,
        repr=False,
        alias="AMENDS_STAFF_TOKEN",  # the command line reads it too
        description="opens the console and the staff routes; unset: made once, in home/staff.token",
    )
    metrics_token: str | None = Field(
        None,
        min_length=16,
        repr=False,
        description="reads /metrics and nothing else; the staff token does too",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="sites that embed the widget, e.g. https://shop.example,https://www.shop.example",
    )
    session_ttl_s: int = Field(86_400, ge=60, description="how long a visitor's token is valid")
    staff_ttl_s: int = Field(43_200, ge=60, description="how long a login to the console lasts")
    visitor_messages_per_minute: int = Field(
        30, ge=1, description="as many conversations may be opened"
    )
    address_messages_per_minute: int = Field(
        600, ge=1, description="all visitors of one network address together"
    )
    visitor_judgements_per_minute: int = Field(60, ge=1, description="thumbs and ratings")
    address_sessions_per_minute: int = Field(600, ge=1)
    logins_per_minute: int = Field(10, ge=1, description="attempts per network address")
    temperature: float = Field(0.3, ge=0, le=2, description="0 always takes the likeliest token")
    top_p: float = Field(0.9, gt=0, le=1)
    hello_timeout_s: float = Field(10.0, gt=0, description="a socket that says nothing is closed")
    outgoing_frames: int = Field(
        256, ge=16, description="frames a slow client may lag behind before it is disconnected"
    )
    unacknowledged_s: int = Field(
        20, ge=1, description="TCP_USER_TIMEOUT: a peer that acknowledges nothing is dropped"
    )
    shutdown_s: int = Field(5, ge=0, description="time that running responses get at the end")

    @field_validator("staff_token", "metrics_token", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or not host or "/" in host or "*" in host:
                raise ValueError(f"expected an origin such as https://shop.example, got {origin!r}")
        return value
