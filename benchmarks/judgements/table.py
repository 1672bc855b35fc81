"""The README's table from bench-reward's rows."""

from typing import Any


def markdown(rows: list[dict[str, Any]]) -> str:
    """The README's table."""
    lines = [
        "| judgements | model | fitted on | figure | 95 % interval (calibration: the seeds) |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if row["value"] is None:
            continue
        setting = row["setting"]
        name = row["metric"].replace("_", " ")
        if "over" in setting:
            name = f"gain over {setting['over']}"
        who, judgements = row["system"], setting["dataset"]
        if "groups" in setting:
            judgements += f", split by {setting['groups']}"
        if setting.get("features") == "adapter":
            who += ", adapter"
        fitted_on = setting.get("fitted_on", setting["view"])
        lines.append(
            f"| {judgements} | {who} | {fitted_on} "
            f"| {name} {row['value']:.3f} | {row['low']:.3f} to {row['high']:.3f} |"
        )
    reasons = sorted({row["setting"]["reason"] for row in rows if row["value"] is None})
    return "\n".join([*lines, "", *(f"Skipped: {reason}" for reason in reasons)])
