"""Thumbs and ratings in Chromium, against a peer that says what each test tells it to."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.peer import Peer
from tests.browser.widget_page import WidgetPage

pytestmark = pytest.mark.browser


def test_a_thumb_up_is_sent_at_once_and_confirmed(chat: WidgetPage, peer: Peer) -> None:
    chat.open()
    turn = chat.ask("How long?")
    chat.thumb_up(turn)
    expect(turn).to_contain_text("Thank you, saved.")
    path, body, key = peer.told.feedback[0]
    assert path == f"v1/turns/{turn.get_attribute('data-turn')}/thumb"
    assert body == {"value": 1, "reasons": [], "comment": ""}
    assert re.fullmatch("[0-9a-f]{32}", key)


def test_a_thumb_down_counts_before_its_reasons_which_then_replace_it(
    chat: WidgetPage, peer: Peer
) -> None:
    chat.open()
    turn = chat.ask("How long?")
    chat.thumb_down(turn)
    turn.get_by_role("button", name="Outdated").click()
    turn.get_by_role("button", name="Incomplete").click()
    turn.get_by_placeholder("Tell us more").fill("It is 30 days now.")
    turn.get_by_role("button", name="Send feedback").click()
    expect(turn).to_contain_text("Thank you, saved.")
    assert [body for _, body, _ in peer.told.feedback] == [
        {"value": -1, "reasons": [], "comment": ""},
        {"value": -1, "reasons": ["incomplete", "outdated"], "comment": "It is 30 days now."},
    ]
    assert len({key for _, _, key in peer.told.feedback}) == 2


def test_feedback_that_the_server_cannot_take_now_arrives_later_under_the_same_key(
    chat: WidgetPage, peer: Peer
) -> None:
    chat.open()
    turn = chat.ask("How long?")
    peer.told.feedback_status = 503
    chat.thumb_up(turn)
    expect(turn).to_contain_text("Saving…")
    chat.page.reload()
    peer.told.feedback_status = 200
    chat.open()
    expect(chat.turns.last).to_contain_text("Thank you, saved.")
    assert len(peer.told.feedback) >= 2
    assert len({key for _, _, key in peer.told.feedback}) == 1


def test_feedback_that_the_server_refuses_is_not_called_saved(chat: WidgetPage, peer: Peer) -> None:
    chat.open()
    turn = chat.ask("How long?")
    peer.told.feedback_status = 404
    chat.thumb_up(turn)
    expect(turn).to_contain_text("This could not be saved.")
    assert len(peer.told.feedback) == 1


def test_the_end_of_a_conversation_asks_how_it_was(chat: WidgetPage, peer: Peer) -> None:
    chat.open()
    end = chat.widget.get_by_role("button", name="End conversation")
    expect(end).to_be_disabled()
    chat.ask("How long?")
    end.click()
    chat.widget.get_by_role("button", name="4 of 5").click()
    expect(chat.dialog).to_contain_text("Thank you, saved.")
    path, body, _ = peer.told.feedback[0]
    assert re.fullmatch("v1/conversations/[0-9a-f]+/rating", path)
    assert body == {"value": 4}
    chat.widget.get_by_role("button", name="Start a new conversation").click()
    expect(chat.turns).to_have_count(0)
    chat.ask("Another thing")
    assert peer.told.hellos[-1]["conversation_id"] is None
