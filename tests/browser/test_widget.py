"""The widget in Chromium, against a peer that says what each test tells it to."""

import json

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.peer import Peer
from tests.browser.widget_page import WidgetPage

pytestmark = pytest.mark.browser


def storage(page: Page) -> list[int]:
    return list(page.evaluate("[localStorage.length, sessionStorage.length]"))


def test_before_the_first_open_nothing_is_requested_and_nothing_stored(
    page: Page, peer: Peer
) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url.removeprefix(peer.url)))
    page.goto(peer.url)
    expect(WidgetPage(page).launcher).to_be_visible()
    page.wait_for_timeout(300)
    assert [url for url in requested if "/v1/" in url] == []
    assert (peer.told.sessions, peer.told.hellos) == (0, [])
    assert storage(page) == [0, 0]


def test_the_panel_greets_and_says_that_it_is_an_ai(chat: WidgetPage) -> None:
    chat.open()
    expect(chat.dialog).to_contain_text("Brambletarn")
    expect(chat.dialog).to_contain_text("Hello! Ask me about our gear.")
    expect(chat.dialog).to_contain_text("You are talking to an AI")


def test_an_answer_streams_into_a_live_region_and_is_judged_only_when_done(
    chat: WidgetPage, peer: Peer
) -> None:
    peer.told.answers = ["You have **45 days** to send it back."]
    peer.told.sources = [{"title": "Returns: Return window", "source": "returns.md"}]
    peer.told.hold_after = 4
    chat.open()
    chat.say("How long?")
    streaming = chat.answers.last
    expect(streaming).to_have_text("You have 45 days")
    expect(streaming).to_have_attribute("aria-busy", "true")
    expect(chat.widget.locator('[role="log"][aria-live="polite"] .answer').last).to_be_visible()
    expect(chat.thumbs).to_have_count(0)
    expect(chat.widget.get_by_role("button", name="Stop the answer")).to_be_enabled()
    peer.released.set()
    expect(chat.thumbs).to_have_count(1)
    expect(streaming).to_have_attribute("aria-busy", "false")
    expect(streaming.locator("strong")).to_have_text("45 days")
    expect(chat.turns.last).to_contain_text("Based on: Returns: Return window")


def test_stop_ends_the_response_and_what_came_can_be_judged(chat: WidgetPage, peer: Peer) -> None:
    peer.told.answers = ["You have a very long time to think about this."]
    peer.told.hold_after = 2
    chat.open()
    chat.say("How long?")
    expect(chat.answers.last).to_have_text("You have a")
    chat.widget.get_by_role("button", name="Stop the answer").click()
    expect(chat.turns.last).to_contain_text("You stopped this answer.")
    expect(chat.thumbs).to_have_count(1)


def test_a_reload_keeps_the_conversation(chat: WidgetPage, peer: Peer) -> None:
    peer.told.answers = ["You have 45 days."]
    chat.open()
    chat.ask("How long?")
    chat.page.reload()
    chat.open()
    expect(chat.turns).to_have_count(1)
    expect(chat.turns).to_contain_text("How long?")
    expect(chat.answers).to_have_text("You have 45 days.")
    assert peer.told.sessions == 1
    assert peer.told.hellos[1]["conversation_id"] is not None


def test_a_reload_in_mid_response_shows_all_of_its_words(chat: WidgetPage, peer: Peer) -> None:
    peer.told.answers = ["You have 45 days."]
    peer.told.hold_after = 2
    chat.open()
    chat.say("How long?")
    expect(chat.answers).to_have_text("You have 4")
    chat.page.reload()
    chat.open()
    expect(chat.answers).to_have_text("You have 4")
    peer.released.set()
    expect(chat.thumbs).to_have_count(1)
    expect(chat.turns).to_have_count(1)
    expect(chat.answers).to_have_text("You have 45 days.")


def test_a_cut_connection_resumes_without_a_lost_or_doubled_word(
    chat: WidgetPage, peer: Peer
) -> None:
    answer = " ".join(str(number) for number in range(100))
    peer.told.answers = [answer]
    peer.told.piece_s = 0.02
    chat.open()
    chat.say("Count!")
    for word in ("2", "40"):
        expect(chat.answers).to_contain_text(f" {word} ")
        peer.cut()
    expect(chat.thumbs).to_have_count(1)
    expect(chat.answers).to_have_text(answer)
    assert len(peer.told.messages) == 1
    assert [hello["after_seq"] is None for hello in peer.told.hellos] == [True, False, False]


def test_a_conversation_that_the_server_lost_stays_readable_and_a_new_one_begins(
    chat: WidgetPage, peer: Peer
) -> None:
    chat.open()
    chat.ask("How long?")
    sockets = list(peer.told.hellos)
    peer.lose_conversations()
    expect(chat.thumbs).to_have_count(0)
    chat.ask("And now?")
    expect(chat.turns).to_have_count(2)
    assert len(peer.told.hellos) == len(sockets) + 2
    assert peer.told.hellos[-1]["conversation_id"] is None


def test_a_busy_server_is_told_and_the_same_message_can_be_sent_again(
    chat: WidgetPage, peer: Peer
) -> None:
    peer.told.errors = [{"code": "busy", "message": "too many", "retry_after_s": 1}]
    chat.open()
    chat.say("How long?")
    expect(chat.turns.last).to_contain_text("Many people are asking right now.")
    chat.widget.get_by_role("button", name="Try again").click()
    expect(chat.thumbs).to_have_count(1)
    expect(chat.turns).to_have_count(1)
    assert len({message["message_id"] for message in peer.told.messages}) == 1


def test_a_message_that_is_too_long_goes_back_into_the_input(chat: WidgetPage, peer: Peer) -> None:
    peer.told.errors = [{"code": "message_too_long", "message": "at most 10"}]
    chat.open()
    chat.say("How long do I have?")
    chat.widget.get_by_role("button", name="Edit message").click()
    expect(chat.input).to_have_value("How long do I have?")
    expect(chat.input).to_be_focused()
    expect(chat.turns).to_have_count(0)


def test_a_message_over_the_limit_never_locks_the_widget(chat: WidgetPage, peer: Peer) -> None:
    key = chat.widget.evaluate("chat => `amends:${chat.site}:outbox`")
    kept = json.dumps([{"kind": "message", "id": "m", "text": "long " * 20_000}])
    chat.page.evaluate("([key, kept]) => sessionStorage.setItem(key, kept)", [key, kept])
    chat.open()
    expect(chat.input).to_have_attribute("maxlength", "4000")
    expect(chat.turns.last).to_contain_text("This message is too long.")
    chat.ask("How long?")
    assert [message["text"] for message in peer.told.messages] == ["How long?"]
    assert chat.page.evaluate("key => sessionStorage.getItem(key)", key) is None


def test_the_keyboard_is_enough(chat: WidgetPage, peer: Peer) -> None:
    keyboard = chat.page.keyboard
    chat.launcher.focus()
    keyboard.press("Enter")
    expect(chat.input).to_be_focused()
    expect(chat.widget.locator(".greeting")).to_contain_text("Hello!")
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    expect(chat.input).to_have_value("one\ntwo")
    keyboard.press("Enter")
    expect(chat.thumbs).to_have_count(1)
    expect(chat.input).to_be_focused()
    assert peer.told.messages[0]["text"] == "one\ntwo"
    keyboard.press("Shift+Tab")
    expect(chat.thumbs.get_by_role("button", name="Not helpful")).to_be_focused()
    keyboard.press("Enter")
    keyboard.press("Tab")
    keyboard.press("Space")
    expect(chat.thumbs.get_by_role("button", name="Incorrect")).to_have_attribute(
        "aria-pressed", "true"
    )
    keyboard.press("Escape")
    expect(chat.thumbs.locator("form")).to_have_count(0)
    keyboard.press("Escape")
    expect(chat.dialog).to_be_hidden()
    expect(chat.launcher).to_be_focused()


def test_an_empty_message_is_not_sent(chat: WidgetPage, peer: Peer) -> None:
    chat.open()
    chat.say("   \n ")
    expect(chat.widget.get_by_role("button", name="Send message")).to_be_disabled()
    expect(chat.turns).to_have_count(0)
    assert peer.told.messages == []


def test_talking_to_a_person_tells_how_the_shop_is_reached(chat: WidgetPage) -> None:
    chat.open()
    chat.widget.get_by_role("button", name="Talk to a person").click()
    expect(chat.dialog).to_contain_text("help@brambletarn.example within 1 working day")
    chat.widget.get_by_role("button", name="Got it").click()
    expect(chat.input).to_be_focused()


def test_without_a_contact_the_widget_does_not_promise_a_person(page: Page, peer: Peer) -> None:
    script = "<script async src=/widget/amends-chat.js></script>"
    peer.told.page = f"<!doctype html><html lang=en><title>x</title>{script}"
    page.goto(peer.url)
    chat = WidgetPage(page)
    chat.open()
    chat.widget.get_by_role("button", name="Talk to a person").click()
    expect(chat.dialog).to_contain_text("This chat cannot connect you to a person.")


def test_a_page_with_its_own_element_gets_no_second_one_and_its_language(
    page: Page, peer: Peer
) -> None:
    peer.told.page = (
        "<!doctype html><html lang=de><title>x</title><body><amends-chat></amends-chat>"
        "<script src=/widget/amends-chat.js></script><script src=/widget/amends-chat.js></script>"
    )
    page.goto(peer.url)
    expect(page.locator("amends-chat")).to_have_count(1)
    page.get_by_role("button", name="Chat öffnen").click()
    expect(page.locator("amends-chat dialog")).to_contain_text("Sie sprechen mit einer KI.")


def test_an_answer_that_ends_while_the_panel_is_closed_is_counted(
    chat: WidgetPage, peer: Peer
) -> None:
    peer.told.hold_after = 1
    chat.open()
    chat.say("How long?")
    expect(chat.answers).to_have_text("You h")
    chat.launcher.click()
    expect(chat.dialog).to_be_hidden()
    peer.released.set()
    expect(chat.launcher.get_by_label("1 new answer")).to_be_visible()
    chat.launcher.click()
    expect(chat.launcher.get_by_label("1 new answer")).to_have_count(0)
    expect(chat.thumbs).to_have_count(1)


def test_on_a_phone_the_panel_is_a_modal_sheet_over_the_whole_screen(
    browser: Browser, peer: Peer
) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(peer.url)
    chat = WidgetPage(page)
    chat.launcher.tap()
    expect(chat.widget.locator(".greeting")).to_contain_text("Hello!")
    assert chat.dialog.bounding_box() == {"x": 0, "y": 0, "width": 390, "height": 844}
    assert chat.dialog.evaluate("dialog => dialog.matches(':modal')")
    expect(chat.input).not_to_be_focused()
    page.keyboard.press("Escape")
    expect(chat.dialog).to_be_hidden()
    context.close()
