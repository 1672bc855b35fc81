"""What can go wrong in the domain, as plain exceptions.

Knows no HTTP, no Redis, no torch: the edges translate (server/errors.py to statuses, the command
line to exit codes). Every message says what was expected, what came, and what to do.
"""


class AmendsError(Exception):
    """Base of every error that Amends raises on purpose."""


class SettingsError(AmendsError):
    """A setting is missing, malformed or contradicts another."""


class NotFound(AmendsError):
    """The named conversation, turn, run or version does not exist (or is not the caller's)."""


class InvalidInput(AmendsError):
    """What the caller sent breaks a rule of the domain."""


class IdempotencyConflict(AmendsError):
    """The same idempotency key came with another body."""


class StoreUnavailable(AmendsError):
    """The store cannot promise durability now: unreachable, full, or wrongly configured."""


class BadTransition(AmendsError):
    """A run, or an alias, cannot move from its present state to the one asked for."""


class LeaseLost(AmendsError):
    """Another epoch owns the run: whoever gets this must stop and publish nothing."""


class AdapterRefused(AmendsError):
    """An adapter's files are not what its manifest promises, or do not fit the base model."""


class ModelUnavailable(AmendsError):
    """The base model cannot be fetched, verified, converted or loaded."""


class EngineBusy(AmendsError):
    """The engine's queue is full; `retry_after_s` says when to come back."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotEnoughData(AmendsError):
    """A round has too little feedback to learn from."""
