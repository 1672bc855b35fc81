"""`amends knowledge`: what loads is imported, what does not is refused with its reason."""

import json
from importlib import resources
from pathlib import Path

import pytest

from amends.knowledge import Knowledge
from tests.amends.command_line import Amends

EXAMPLE = Path(str(resources.files("amends") / "example_shop"))


def test_check_says_what_a_folder_holds(amends: Amends) -> None:
    held = json.loads(amends("knowledge", "check", str(EXAMPLE), "--json").stdout)

    assert held["passages"] == len(Knowledge.load(EXAMPLE).passages)
    assert "passages" in amends("knowledge", "check", str(EXAMPLE)).stdout


def test_an_imported_folder_is_the_one_that_serves(amends: Amends, amends_home: Path) -> None:
    amends("knowledge", "import", str(EXAMPLE))

    assert Knowledge.load(amends_home / "knowledge").shop == Knowledge.load(EXAMPLE).shop


def test_a_broken_folder_is_refused_and_nothing_changes(
    amends: Amends, amends_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "shop.json").write_text("{")

    assert "shop.json" in amends("knowledge", "import", str(tmp_path / "shop"), code=1).stderr
    assert not (amends_home / "knowledge").exists()


def test_a_set_folder_is_said_to_go_before_the_imported_one(
    amends: Amends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENDS_KNOWLEDGE", str(EXAMPLE))

    assert "goes before" in amends("knowledge", "import", str(EXAMPLE)).stderr
