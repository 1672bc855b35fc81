"""Times, durations and numbers in the console's words.

Pure. Invariant: times are UTC and say so.
"""

from datetime import UTC, datetime

from amends.record import in_utc


def when(seconds: float | None) -> str:
    """UTC, to the minute."""
    return "" if seconds is None else in_utc(seconds)


def machine_when(seconds: float) -> str:
    """For <time datetime>."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def number(value: float) -> str:
    return f"{value:.4g}"
