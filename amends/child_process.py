"""Start child processes that do not outlive us.

Knows no command. On Linux the kernel signals the child when the *thread* that started it ends
(PR_SET_PDEATHSIG), so start children from a thread that lives as long as they should. On macOS
there is no such call: a child outlives a parent that was killed with -9, and ends by itself only
where it watches its lease.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_AUTOGROUP = "/proc/self/autogroup"


def dies_with_parent(death_signal: signal.Signals, niceness: int = 0) -> Callable[[], None]:
    """A `preexec_fn`. Everything it needs is looked up before the fork, where no lock can be held
    by another thread.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def in_child() -> None:
        if niceness:
            os.nice(niceness)
            nice_session(niceness)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            # The parent may have died between fork and prctl: then no signal will ever come.
            if os.getppid() != parent:
                os._exit(1)

    return in_child


def nice_session(niceness: int) -> None:
    """Make this process's session as nice as a process of it.

    Where Linux groups tasks by session (sched_autogroup_enabled, on by default), nice values count
    only inside a session: a trainer of niceness 19 in a session of its own took half of the
    machine from the server, and answers came ten times slower.
    """
    try:
        group = os.open(_AUTOGROUP, os.O_WRONLY)
    except OSError:  # no Linux, no grouping, or not permitted: then nice alone has to do
        return
    with suppress(OSError):
        os.write(group, str(niceness).encode())
    os.close(group)
