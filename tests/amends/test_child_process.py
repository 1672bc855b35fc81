"""Children that do not outlive their parent, and that stand back for visitors."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amends.child_process import dies_with_parent

AUTOGROUP = Path("/proc/self/autogroup")


def told_by_child(code: str, niceness: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=dies_with_parent(signal.SIGTERM, niceness),
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_a_nice_child_has_that_niceness() -> None:
    before = os.nice(0)
    assert told_by_child("import os; print(os.nice(0))", 7) == str(before + 7)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not group tasks by session")
def test_its_session_is_as_nice_as_the_child() -> None:
    told = told_by_child(f"print(open({str(AUTOGROUP)!r}).read())", 19)
    assert told.endswith("nice 19"), told
    assert "nice 19" not in AUTOGROUP.read_text()
