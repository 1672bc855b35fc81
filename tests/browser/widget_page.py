"""What a visitor does with the widget, as steps that tests share. Knows no server."""

from playwright.sync_api import Locator, Page, expect

WIDGET = "amends-chat"


class WidgetPage:
    """One page that carries the widget."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.widget = page.locator(WIDGET)
        self.launcher = self.widget.locator(".launcher")
        self.dialog = self.widget.locator("dialog")
        self.input = self.widget.get_by_placeholder("Write a message")
        self.turns = self.widget.locator('[role="log"] .turn:has(.bubble)')
        self.answers = self.turns.locator(".answer")
        self.thumbs = self.widget.locator("amends-thumb")

    def open(self) -> None:
        self.launcher.click()
        expect(self.widget.locator(".greeting")).not_to_have_text("Connecting…")

    def say(self, text: str) -> None:
        self.input.fill(text)
        self.input.press("Enter")

    def ask(self, text: str) -> Locator:
        """Says `text` and waits for the end of the response; returns its turn."""
        before = self.turns.count()
        self.say(text)
        turn = self.turns.nth(before)
        expect(turn.locator("amends-thumb")).to_be_visible(timeout=60_000)
        return turn

    def thumb_up(self, turn: Locator) -> None:
        turn.get_by_role("button", name="Helpful", exact=True).click()

    def thumb_down(self, turn: Locator) -> None:
        turn.get_by_role("button", name="Not helpful", exact=True).click()
