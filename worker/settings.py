"""When to train, and how a training process is watched.

Knows no hyperparameters (learning_settings has them). Invariant: a lease outlives several
renewals, so that one blip of the store never takes a run from its worker.
"""

import sys
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """Each field is the environment variable AMENDS_WORKER_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="AMENDS_WORKER_", frozen=True, extra="ignore")

    min_new_feedback: int = Field(
        100, ge=1, description="pieces of feedback since the last run that start the next one"
    )
    max_hours_between_rounds: float = Field(
        24.0, gt=0, description="after so long, less feedback starts a run too; hours"
    )
    max_attempts: int = Field(3, ge=1, description="times a run is tried before it is FAILED")
    max_out_of_memory_attempts: int = Field(
        2, ge=1, description="the same, when its process was killed for memory"
    )
    lease_s: float = Field(60.0, gt=0, description="how long a run stays ours without renewal")
    renew_every_s: float = Field(10.0, gt=0, description="between two renewals of the lease")
    poll_s: float = Field(0.5, gt=0, description="between two looks at the trainer process")
    stop_grace_s: float = Field(
        30.0, ge=0, description="from asking the trainer to checkpoint and end until it is killed"
    )
    reconcile_every_s: float = Field(15.0, gt=0, description="between two searches for lost runs")
    maybe_start_every_s: float = Field(60.0, gt=0, description="between two looks at the feedback")
    hint_after_s: float = Field(
        30.0, ge=0, description="a QUEUED run this long without a worker is announced again"
    )
    trainer_niceness: int = Field(19, ge=0, le=19, description="scheduling priority; 19 is last")
    trainer_command: tuple[str, ...] = Field(
        (sys.executable, "-m", "worker.trainer"),
        description="the process that trains; a launcher starts several (docs/training.md)",
    )

    @model_validator(mode="after")
    def _lease_outlives_renewals(self) -> Self:
        if self.lease_s < 3 * self.renew_every_s:
            raise ValueError(
                f"lease_s {self.lease_s} must be at least three times renew_every_s "
                f"{self.renew_every_s}"
            )
        return self
