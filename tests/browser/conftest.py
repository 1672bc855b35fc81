"""Debian's Chromium, one per file (its driver keeps an event loop running in this thread, and other
tests need their own); a fresh context, hence fresh storage, per test.

Invariant: a test fails when the page logs an error that it did not expect, or breaks the content
security policy.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.peer import Peer
from tests.browser.widget_page import WidgetPage
from tests.conftest import living_children

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str:
    found = shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(found).exists():
        pytest.fail("Chromium is not installed. `make test` installs Debian's package `chromium`.")
    return found


def chromium_left() -> bool:
    for process in living_children():
        with suppress(psutil.NoSuchProcess):
            if "chrom" in process.name():
                return True
    return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=chromium_path(), headless=True, args=list(ARGUMENTS)
        )
        yield chromium
        chromium.close()
    # Chromium's helpers become ours when it ends: reap them before the next file counts children.
    deadline = time.monotonic() + 5
    while chromium_left():
        assert time.monotonic() < deadline, "Chromium did not end"
        time.sleep(0.05)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def complaints(context: BrowserContext) -> Iterator[list[str]]:
    """What the pages complained of: errors, and violations of the content security policy."""
    heard: list[str] = []
    context.on("weberror", lambda error: heard.append(str(error.error)))
    context.on(
        "console",
        lambda message: (
            heard.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield heard


@pytest.fixture
def page(context: BrowserContext, complaints: list[str]) -> Iterator[Page]:
    page = context.new_page()
    yield page
    unexpected = [text for text in complaints if "WebSocket connection" not in text]
    assert unexpected == []


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture
def chat(page: Page, peer: Peer) -> WidgetPage:
    page.goto(peer.url)
    return WidgetPage(page)
