"""The file of measurements is complete after every row."""

import json
import subprocess
from pathlib import Path

import pytest

from simulator import results
from simulator.results import Results


def test_every_row_leaves_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "demo.json"
    results = Results(path)
    results.add("stage_seconds", 1.5, "s", {"stage": "train"})
    first = json.loads(path.read_text())
    results.add("satisfaction_before", 2.0, "1–5", {}, low=1.5, high=2.5)
    second = json.loads(path.read_text())

    assert set(first) == {"date", "commit", "machine", "rows"}
    assert set(first["machine"]) == {"cpu", "cores"}
    assert second["rows"][:1] == first["rows"]
    assert second["rows"][1] == {
        "metric": "satisfaction_before",
        "system": "ours",
        "setting": {},
        "value": 2.0,
        "low": 1.5,
        "high": 2.5,
        "unit": "1–5",
    }
    assert [file.name for file in path.parent.iterdir()] == ["demo.json"]


def test_the_programs_commit_says_when_files_differ_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "__file__", str(tmp_path / "simulator" / "results.py"))
    for name in ("simulator", "worker", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("as committed")
    assert results.programs() == "unknown"
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@tarn.example")
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        subprocess.run([*git, *command], check=True)
    clean = results.programs()
    (tmp_path / "docs" / "file").write_text("a figure")
    assert results.programs() == clean == results.commit() and len(clean) == 40
    (tmp_path / "worker" / "file").write_text("changed")
    assert results.programs() == f"{clean}+changes"
