"""Work that computes beside the engine's thread: in a thread of its own, which ends with it.

Every thread that computes with torch gets OpenMP workers of its own, for as long as it lives. With
more of them than cores, libgomp stops spinning at its barriers and sleeps: the engine's thread,
which meets hundreds a token, would write at half the speed. Knows no engine.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

LAST = 19  # niceness: gets what others leave, and a hundredth of what they want


def in_own_thread(work: Callable[[], T], niceness: int = 0) -> T:
    """Its result, from a thread that has ended by then.

    `niceness` is the thread's, and its workers', on Linux; elsewhere a process has only one.
    """

    def run() -> T:
        if sys.platform == "linux" and niceness:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        return work()

    with ThreadPoolExecutor(1) as own:
        return own.submit(run).result()
