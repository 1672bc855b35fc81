"""The committed bundle: fresh, small, its TypeScript tested. What needs npm is skipped without."""

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDGET = ROOT / "widget"
BUNDLE = ROOT / "server" / "static" / "amends-chat.js"
LARGEST_GZ_BYTES = 40 * 1024


@pytest.fixture(scope="module")
def node() -> str:
    """Node, once the widget's packages are installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node is not installed; the committed bundle is used as it is")
    if not (WIDGET / "node_modules").is_dir():
        pytest.skip("the widget's packages are not installed: run `npm ci` in widget/")
    return found


def run(node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, *arguments], cwd=WIDGET, capture_output=True, text=True, timeout=120
    )


def test_the_committed_bundle_is_what_the_sources_give(node: str, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.js"
    built = run(node, "build.mjs", "--out", str(fresh))
    assert built.returncode == 0, built.stderr
    assert fresh.read_bytes() == BUNDLE.read_bytes(), "run `npm ci && npm run build` in widget/"


def test_the_types_of_the_widget_fit(node: str) -> None:
    checked = run(node, "node_modules/typescript/bin/tsc", "--noEmit")
    assert checked.returncode == 0, checked.stdout


def test_the_tests_of_the_widgets_pure_parts_pass(node: str) -> None:
    built = run(node, "build.mjs", "--tests")
    assert built.returncode == 0, built.stderr
    names = sorted(str(path) for path in (WIDGET / "build").glob("*.test.mjs"))
    assert len(names) == len(list((WIDGET / "test").glob("*.test.ts"))) > 0
    tested = run(node, "--test", *names)
    assert tested.returncode == 0, tested.stdout


def test_the_bundle_is_at_most_40_kb_gzipped() -> None:
    assert len(gzip.compress(BUNDLE.read_bytes(), 9, mtime=0)) <= LARGEST_GZ_BYTES


def test_the_bundle_needs_no_eval_and_no_other_file() -> None:
    text = BUNDLE.read_text("utf-8")
    assert not re.search(
        r"\beval\(|new Function\(|document\.write|insertAdjacentHTML|outerHTML", text
    )
    # Lit parses its own templates, through its Trusted Types policy; nothing else may.
    assert len(re.findall(r"\.innerHTML\s*=", text)) == 1
    assert "sourceMappingURL" not in text
    assert not re.search(r"\bimport\(|\brequire\(", text)


def test_versions_are_pinned() -> None:
    package = json.loads((WIDGET / "package.json").read_text("utf-8"))
    for name, version in {**package["dependencies"], **package["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
