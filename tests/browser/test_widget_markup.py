"""Markup in answers, messages and sources does nothing; links are harmless."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.peer import Peer
from tests.browser.widget_page import WidgetPage

pytestmark = pytest.mark.browser

INERT = [
    "<img src=x onerror='window.pwned=1'>",
    "<script>window.pwned=1</script>",
    "<svg onload=window.pwned=1><a href=javascript:window.pwned=1>x</a></svg>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<b onclick='window.pwned=1'>bold</b> <style>*{display:none}</style>",
    "[x](javascript:window.pwned=1)",
    "[x](  jAvAsCrIpT:window.pwned=1)",
    "[x](data:text/html,<script>window.pwned=1</script>)",
    "[x](http://plain.example)",
    "![x](https://tracker.example/pixel.png)",
    "<https://a.example/'onmouseover='window.pwned=1>",
    '[x](https://a.example/"onmouseover="window.pwned=1)',
    "```html\n<img src=x onerror=window.pwned=1>\n```",
    "| <img src=x onerror=window.pwned=1> |\n|---|\n| <script>window.pwned=1</script> |",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1>",
]


def test_markup_is_inert_in_answers_messages_and_sources(chat: WidgetPage, peer: Peer) -> None:
    requested: list[str] = []
    chat.page.on("request", lambda request: requested.append(request.url))
    chat.open()
    for payload in INERT:
        peer.told.answers = [f"{payload}\n\nend"]
        peer.told.sources = [{"title": payload, "source": "javascript:window.pwned=1"}]
        turn = chat.ask(payload)
        expect(turn.locator(".answer")).to_contain_text("end")
        for link in turn.locator("a").all():
            assert re.match("https://a.example/", link.get_attribute("href") or ""), payload
            link.dispatch_event("mouseover")
    expect(chat.turns).to_have_count(len(INERT))
    log = chat.widget.get_by_role("log")
    names = "log => [...new Set([...log.querySelectorAll('*')].map(e => e.localName))]"
    dangerous = {"img", "script", "style", "iframe", "svg", "math", "object", "embed", "form"}
    assert set(log.evaluate(names)) & dangerous == set()
    attributes = "log => [...log.querySelectorAll('*')].flatMap(e => e.getAttributeNames())"
    assert [
        name for name in log.evaluate(attributes) if name.startswith("on") or name == "style"
    ] == []
    assert chat.page.evaluate("window.pwned") is None
    own = (peer.url, peer.url.replace("http", "ws"))
    assert [url for url in requested if not url.startswith(own)] == []


def test_a_link_in_an_answer_opens_elsewhere_and_tells_nothing(
    chat: WidgetPage, peer: Peer
) -> None:
    peer.told.answers = ["See [our page](https://shop.example/returns) or <help@shop.example>."]
    chat.open()
    link = chat.ask("Where?").get_by_role("link", name="our page")
    expect(link).to_have_attribute("href", "https://shop.example/returns")
    expect(link).to_have_attribute("target", "_blank")
    expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(chat.turns.last.get_by_role("link", name="help@")).to_have_attribute(
        "href", "mailto:help@shop.example"
    )
