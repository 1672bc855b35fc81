"""The whole way of one thumb: a visitor in Chromium, the real server, a real store."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from amends.conversation_store import ConversationStore
from amends.feedback import Rating, Thumb
from amends.feedback_store import FeedbackStore
from amends.store_client import connect
from tests.browser.widget_page import WidgetPage
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.browser

READY_S = 120.0
STOP_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    pytest.fail(f"the server was not ready; it said:\n{log.read_text('utf-8')[-4000:]}")


@pytest.fixture(scope="module")
def server_url(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python -m server` with a tiny model and the session's store."""
    home = tmp_path_factory.mktemp("home")
    port = free_port()
    settings = {
        "AMENDS_REDIS_URL": store_url,
        "AMENDS_HOME": str(home),
        "AMENDS_BASE_MODEL": str(make_tiny_model(tmp_path_factory.mktemp("model"))),
        "AMENDS_CONTEXT_TOKENS": "2048",  # the tiny model's tokens are bytes
        "AMENDS_THREADS": "1",
        "AMENDS_SERVER_PORT": str(port),
    }
    log = home / "server.log"
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "server"],
            env={**os.environ, **settings},
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
    try:
        wait_until_ready(url := f"http://127.0.0.1:{port}", server, log)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def test_a_thumb_given_in_the_browser_is_in_the_store(
    page: Page, server_url: str, store_url: str
) -> None:
    page.goto(server_url)
    chat = WidgetPage(page)
    chat.open()
    expect(chat.widget.locator(".greeting")).to_contain_text("Brambletarn")
    turn = chat.ask("How long can I return something?")
    chat.thumb_down(turn)
    turn.get_by_role("button", name="Incorrect").click()
    turn.get_by_placeholder("Tell us more").fill("It is 45 days.")
    turn.get_by_role("button", name="Send feedback").click()
    expect(turn).to_contain_text("Thank you, saved.")
    chat.widget.get_by_role("button", name="End conversation").click()
    chat.widget.get_by_role("button", name="2 of 5").click()
    # The thumb's thanks stand there too: only the second ones are the rating's.
    expect(chat.dialog.get_by_text("Thank you, saved.")).to_have_count(2)

    turn_id = turn.get_attribute("data-turn")
    assert turn_id is not None
    with connect(store_url) as redis:
        stored = ConversationStore(redis).turn(turn_id)
        judged = FeedbackStore(redis).of_conversation(stored.conversation_id)
    assert stored.message == "How long can I return something?"
    assert (stored.origin, stored.policy_version) == ("policy", 0)
    (thumb,) = [feedback for feedback in judged if isinstance(feedback, Thumb)]
    assert (thumb.turn_id, thumb.value, thumb.reasons) == (turn_id, -1, ("incorrect",))
    assert thumb.comment == "It is 45 days."
    (rating,) = [feedback for feedback in judged if isinstance(feedback, Rating)]
    assert rating.value == 2
    assert thumb.rater == rating.rater
    assert thumb.rater.role == "visitor"


def test_a_reload_shows_what_was_said_and_how_it_was_judged(page: Page, server_url: str) -> None:
    page.goto(server_url)
    chat = WidgetPage(page)
    chat.open()
    turn = chat.ask("What does delivery cost?")
    chat.thumb_up(turn)
    expect(turn).to_contain_text("Thank you, saved.")
    answer = turn.locator(".answer").inner_text()
    page.reload()
    chat.open()
    expect(chat.turns).to_have_count(1)
    expect(chat.turns).to_contain_text("What does delivery cost?")
    assert chat.answers.inner_text() == answer
    expect(chat.turns.get_by_role("button", name="Helpful", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
