"""Stores, and the small program that stands where the trainer stands."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.embedded_store import StoreClient
from amends.events import RunEvents
from amends.feedback import Rater, Thumb
from amends.feedback_store import FeedbackStore
from amends.jobs import JobQueue
from amends.prompt import PromptRenderer
from amends.runs import Runs
from tests.tiny_model import make_tiny_model
from worker.training_job import Stores

SCRIPT = (sys.executable, str(Path(__file__).parent / "trainer_script.py"))


@pytest.fixture
def trainer_command() -> tuple[str, ...]:
    return SCRIPT


@pytest.fixture
def stores(redis: StoreClient, store_url: str) -> Stores:
    return Stores(Runs(redis), FeedbackStore(redis), RunEvents(redis), JobQueue(store_url))


@pytest.fixture
def give(stores: Stores) -> Callable[[int], None]:
    """Adds so many thumbs."""

    def add(number: int) -> None:
        for i in range(number):
            rater = Rater(rater_id=f"v{i}", role="visitor")
            thumb = Thumb(turn_id="t", conversation_id="c", rater=rater, given_at=i, value=1)
            stores.feedback.add(thumb, f"k{i}")

    return add


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Waits until a condition holds; fails naming it."""

    def wait(condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_s} s for {what}")
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small matrices on a shared machine: one is faster than two that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, PromptRenderer]:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    backbone = Backbone(load_causal_lm(folder, torch.float32), 384)
    return backbone, PromptRenderer(load_tokenizer(folder), 384, 64)
