"""One bit that Celery's main process shares with its pool: this worker is shutting down.

Knows no task. A task cannot learn it from Celery, and one that trains for hours must. A shared
byte instead of a multiprocessing.Event, whose lock a killed child could hold for ever.
"""

import mmap


class ShutdownFlag:
    """`share` before the pool is forked; unset without it."""

    def __init__(self) -> None:
        self._byte: mmap.mmap | None = None

    def share(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        if self._byte is not None:
            self._byte[0] = 1

    def is_set(self) -> bool:
        return self._byte is not None and self._byte[0] == 1


shutdown_flag = ShutdownFlag()
