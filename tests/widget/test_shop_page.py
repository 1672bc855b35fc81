"""The example shop's page: fits the shop, and a content security policy without 'unsafe-inline'."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from amends.knowledge import Question

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "server" / "shop_page"
SHOP = json.loads((ROOT / "amends" / "example_shop" / "shop.json").read_text("utf-8"))

Element = tuple[str, dict[str, str | None]]


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements() -> list[Element]:
    parser = Elements()
    parser.feed((PAGE / "index.html").read_text("utf-8"))
    return parser.found


def test_the_document_for_websites_names_each_attribute_and_each_field_of_a_question() -> None:
    told = (ROOT / "docs" / "website.md").read_text("utf-8")
    comment = (ROOT / "widget" / "src" / "define.ts").read_text("utf-8").split("\n\n")[0]
    attributes = set(re.findall(r"data-[a-z]+", comment))
    assert attributes == set(re.findall(r"^\| `(data-[a-z]+)`", told, re.MULTILINE))
    example = re.search(r"```json\n(.*)\n```", told)
    assert example is not None
    assert set(json.loads(example[1])) == set(Question.model_fields)


def test_the_page_is_of_the_example_shop() -> None:
    assert SHOP["name"] in (PAGE / "index.html").read_text("utf-8")


def test_the_page_carries_the_widget_by_one_script_tag() -> None:
    scripts = [attributes for tag, attributes in elements() if tag == "script"]
    assert len(scripts) == 1
    assert scripts[0]["src"] == "/widget/amends-chat.js"
    assert scripts[0]["data-site"] == "default"
    assert "async" in scripts[0]


def test_nothing_of_the_page_is_inline() -> None:
    for tag, attributes in elements():
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_every_file_the_page_names_exists_and_comes_from_here() -> None:
    named = [
        value
        for tag, attributes in elements()
        for name, value in attributes.items()
        if tag in ("img", "link") and name in ("src", "href") and value is not None
    ]
    assert named
    for address in named:
        assert address.startswith("/shop/")
        assert (PAGE / address.removeprefix("/shop/")).is_file(), address


def test_pictures_carry_no_script() -> None:
    for picture in (PAGE / "images").glob("*.svg"):
        assert not re.search(r"<script|\son\w+=|href=", picture.read_text("utf-8")), picture.name


def test_every_picture_has_its_size_and_its_alternative() -> None:
    for tag, attributes in elements():
        if tag == "img":
            assert {"alt", "width", "height"} <= attributes.keys()


def test_the_console_is_linked() -> None:
    assert ("a", {"href": "/console"}) in elements()
