"""Who may import whom, and how large a module may grow: the rules that keep the house in order."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = ("amends", "server", "worker", "simulator")
USERS = ("server", "worker", "amends.cli")
COMMAND_LINE = {"amends.__main__", "amends.cli", "amends.supervisor"}
SPEAK_HTTP = re.compile(r"server\.(__main__|app|auth|edge|limits|errors|routes|console)(\..*)?")
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(
        *PROGRAMS,
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def sources() -> list[Path]:
    return sorted(file for program in PROGRAMS for file in (ROOT / program).rglob("*.py"))


def test_the_contracts_in_pyproject_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout


def test_what_is_shared_has_two_users(imports: grimp.ImportGraph) -> None:
    """A module of amends/ that one program alone needs belongs into that program.

    The users are the server, the worker and the command line, directly or through another module of
    amends/. A package counts as one module.
    """
    users = [imports.find_upstream_modules(program, as_package=True) for program in USERS]
    used = [{module_of(name) for name in names} for names in users]
    shared = {module_of(name) for name in imports.modules if name.startswith("amends.")}

    lonely = {name for name in shared - COMMAND_LINE if sum(name in names for names in used) < 2}
    assert lonely == set()


def test_only_the_edge_of_the_server_knows_fastapi(imports: grimp.ImportGraph) -> None:
    importers = imports.find_modules_that_directly_import("fastapi")

    assert {name for name in importers if not SPEAK_HTTP.fullmatch(name)} == set()


def test_a_module_says_what_it_is_for() -> None:
    silent = [
        file for file in sources() if file.read_text() and not ast.get_docstring(parsed(file))
    ]

    assert [str(file.relative_to(ROOT)) for file in silent] == []


def test_no_module_passes_300_lines() -> None:
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in sources()}

    assert {name: lines for name, lines in long.items() if lines > MAX_MODULE_LINES} == {}


def test_no_function_passes_50_lines() -> None:
    long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in sources()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]

    assert long == []


def test_nothing_is_named_after_nothing() -> None:
    vague = {"utils", "helpers", "common", "misc", "manager"}

    assert [file for file in sources() if file.stem in vague] == []


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def module_of(name: str) -> str:
    """`amends.engine.engine` -> `amends.engine`"""
    return ".".join(name.split(".")[:2])
