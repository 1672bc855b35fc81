"""Times, durations and numbers in the console's words.

Pure. Invariant: times are UTC and say so.
"""

from datetime import UTC, datetime


def when(seconds: float | None) -> str:
    """UTC, to the minute."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


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
