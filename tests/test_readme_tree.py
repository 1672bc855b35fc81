"""The README's tree and the tables of settings say what is there, and nothing else.

The rule for the tree: every source file that git knows or would add has a line of its own. A folder
in WHOLE has one line for all that is in it; package files (`__init__.py`), hidden files and npm's
lock file have none.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from amends.settings import Settings
from server.settings import ServerSettings
from worker.canary.settings import CanarySettings
from worker.judge.thresholds import GateThresholds
from worker.learning_settings import LearningSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
WHOLE = (
    "amends/example_shop",
    "benchmarks/results",
    "docs",
    "server/console/static",
    "server/console/templates",
    "server/shop_page",
    "server/static",
    "simulator/data",
    "tests",
    "widget/src/languages",
    "widget/src/styles",
    "widget/test",
    "worker/judge/probes",
)
UNLISTED = {"__init__.py", "package-lock.json"}
ELSEWHERE = {"trainer_command"}  # docs/training.md
ENTRY = re.compile(r"(?P<indent> *)(?P<name>\S+)(?: +(?P<says>\S.*))?")


def readme_tree() -> Iterator[tuple[str, str]]:
    """(path, description) of every line of the tree; a folder's path ends with a slash."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"^## The tree\n.*?^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block is not None, "README.md has no '## The tree' with a ```text block"
    above: list[str] = []
    for line in block[1].splitlines():
        entry = ENTRY.fullmatch(line)
        assert entry is not None, f"not an entry: {line!r}"
        above[len(entry["indent"]) // 2 :] = [entry["name"]]
        yield "".join(above), entry["says"] or ""


def source_files() -> set[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = set()
    for name in listed.splitlines():
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") for part in path.parts)
        whole = next((folder for folder in WHOLE if path.is_relative_to(folder)), None)
        if hidden or path.name in UNLISTED or not (ROOT / name).exists():
            continue
        found.add(f"{whole}/" if whole else name)
    return found


def test_the_tree_lists_every_source_file_and_nothing_that_is_not_there() -> None:
    listed = [path for path, _ in readme_tree()]
    files = {path for path in listed if not path.endswith("/") or path.rstrip("/") in WHOLE}

    assert source_files() - files == set(), "missing in the README's tree"
    assert files - source_files() == set(), "in the README's tree, but not there"
    assert len(listed) == len(set(listed)), "listed twice"


def test_every_line_of_the_tree_says_something() -> None:
    assert [path for path, says in readme_tree() if not says] == []


@pytest.mark.parametrize(
    ("settings", "document"),
    [
        (Settings, "README.md"),
        (ServerSettings, "docs/settings.md"),
        (WorkerSettings, "docs/settings.md"),
        (LearningSettings, "docs/settings.md"),
        (GateThresholds, "docs/settings.md"),
        (CanarySettings, "docs/settings.md"),
    ],
)
def test_every_setting_is_documented_with_its_default(
    settings: type[BaseSettings], document: str
) -> None:
    lines = set((ROOT / document).read_text().splitlines())
    rows = [
        row_of(settings, name, field)
        for name, field in settings.model_fields.items()
        if name not in ELSEWHERE
    ]

    missing = [row for row in rows if row not in lines]
    assert missing == [], "paste into " + document + ":\n" + "\n".join(missing)


def test_no_table_documents_a_setting_that_is_gone() -> None:
    documented = [
        name
        for document in ("README.md", "docs/settings.md")
        for name in re.findall(r"^\| `(AMENDS_\w+)`", (ROOT / document).read_text(), re.MULTILINE)
    ]
    classes = (
        Settings,
        ServerSettings,
        WorkerSettings,
        LearningSettings,
        GateThresholds,
        CanarySettings,
    )
    known = {variable(cls, name) for cls in classes for name in cls.model_fields}

    assert [name for name in documented if name not in known] == []


def variable(settings: type[BaseSettings], name: str) -> str:
    if name == "staff_token":  # the one that both `amends token` and the server read
        return "AMENDS_STAFF_TOKEN"
    return f"{settings.model_config['env_prefix']}{name}".upper()


def row_of(settings: type[BaseSettings], name: str, field: FieldInfo) -> str:
    default = field.default
    if default is None or default == ():
        shown = "unset"
    elif isinstance(default, tuple | frozenset):
        default = sorted(default) if isinstance(default, frozenset) else default
        shown = f"`{json.dumps(list(default))}`"  # as the variable is written
    else:
        shown = f"`{default}`"
    return f"| `{variable(settings, name)}` | {shown} | {field.description or ''} |".replace(
        "  |", " |"
    )
