"""Stands where the trainer stands: does what the run's `reason` says, attempt by attempt.

The reason is a list of behaviours separated by spaces; the Nth attempt takes the Nth, or the last.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from amends.feedback_store import FeedbackStore
from amends.runs import Runs, Verdict
from amends.settings import Settings
from amends.store_client import connect

run_id, epoch = int(sys.argv[2]), int(sys.argv[4])
settings = Settings()
assert settings.redis_url is not None
client = connect(settings.redis_url)
runs, feedback = Runs(client), FeedbackStore(client)
folder = settings.runs_folder / str(run_id)
run = runs.get(run_id)
behaviours = run.reason.split() if run.requested_by == "test" else ["candidate"]


def note(text: str) -> int:
    """Append a line to the run's diary; returns how many lines like it there are."""
    path = folder / "diary"
    with open(path, "a") as diary:
        diary.write(f"{text}\n")
    return Path(path).read_text().split("\n").count(text)


attempt = note("start")
behaviour = behaviours[min(attempt, len(behaviours)) - 1]


def checkpoint_and_end(number: int, frame: FrameType | None) -> None:
    note("checkpoint")
    sys.exit(10)


signal.signal(signal.SIGTERM, checkpoint_and_end)
note(f"claimed {len(feedback.claim(run_id))}")
print(f"attempt {attempt}: {behaviour}", flush=True)
if behaviour == "wait":
    note("waiting")
    time.sleep(120)
elif behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("waiting")
    time.sleep(120)
elif behaviour in ("candidate", "lingering", "hanging"):
    runs.to_gating(run_id, epoch)
    runs.finish(run_id, epoch, "CANDIDATE", version=1, verdict=Verdict(passed=True))
    if behaviour != "candidate":
        time.sleep(0.6 if behaviour == "lingering" else 120)
elif behaviour == "rejected":
    verdict = Verdict(passed=False, reasons=("worse",))
    runs.finish(run_id, epoch, "REJECTED", version=1, verdict=verdict)
elif behaviour == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
else:
    sys.exit(int(behaviour))
