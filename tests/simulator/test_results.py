"""The file of measurements is complete after every row."""

import json
from pathlib import Path

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
