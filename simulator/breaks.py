"""What can break while simulated people use a live install, and how it is told.

Knows the errors of its neighbours, no stage and no round. Visits run side by side, so errors come
in groups.
"""

import httpx
import websockets

from simulator.client import ApiRefused, ChatRefused, ProtocolBroken
from simulator.round import RoundBroke
from simulator.stack import StackBroke

BREAKS = (
    ApiRefused,
    ChatRefused,
    ProtocolBroken,
    RoundBroke,
    StackBroke,
    httpx.TransportError,
    websockets.WebSocketException,
    OSError,
)


def reasons(error: BaseException) -> list[str]:
    """One line per distinct error of a group; visits that break together tell the same."""
    if not isinstance(error, BaseExceptionGroup):
        return [f"{type(error).__name__}: {error}"]
    lines = [line for inner in error.exceptions for line in reasons(inner)]
    return list(dict.fromkeys(lines))
