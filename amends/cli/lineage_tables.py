"""The answers of `amends lineage` as tables.

Knows the JSON values that amends/lineage_records.py makes, no store and no file. Invariant: where a
table names fewer than there are, it says how many more.
"""

from collections.abc import Sequence
from typing import Any

from amends.cli.output import console, print_rows, when
from amends.lineage import NOT_LEARNED

NAMED = 5  # ids, raters and visitors that a table names
_GATE = (
    "answers/",
    "gate/",
    "reward/accuracy",
    "judge/accuracy",
)  # figures that a comparison shows


def show_adapter(found: dict[str, Any], limit: int) -> None:
    run = found["run"] or {}
    asked = ": ".join(run[key] for key in ("requested_by", "reason") if run.get(key))
    facts = {
        "version": found["version"],
        "is": ", ".join(found["aliases"]) or "no alias",
        "created": when(found["created_at"]),
        "trained from": " < ".join(map(str, found["ancestry"])),
        "base model": found["base_hash"],
        "run": f"{found['run_id']} ({asked or 'its record is gone'})",
        "data": found["data_manifest_hash"],
        "without": ", ".join(found["without"]) or None,
        "train": _counts(found["train"]),
        "hold-out": _counts(found["holdout"]),
        "set aside": "\n".join(f"{n} {why}" for why, n in found["set_aside"].items()) or None,
        "reward model": found["reward_model"] or "none: supervised steps only",
        "corrections": _counts(found["corrections"]["counts"]) or "no outcomes recorded",
        "verdict": "\n".join([found["verdict"], *found["reasons"]]),
    }
    _facts(facts)
    rows = [
        {
            "feedback": kind,
            "used": sum(map(len, of.values())),
            "train": len(of["train"]),
            "hold-out": len(of["hold-out"]),
            "ids": _some([name for ids in of.values() for name in ids], limit),
        }
        for kind, of in found["feedback"].items()
    ]
    _section(rows)
    if unlearned := sum(len(of[NOT_LEARNED]) for of in found["feedback"].values()):
        console.print(f"{unlearned} of those used were in the batch but not learned from")
    raters = found["raters"]
    _section(raters[:limit])
    if len(raters) > limit:
        console.print(f"and {len(raters) - limit} more raters; --json names them")
    _section([_move(row) for row in found["alias_moves"]])
    show_changed(found, limit)


def show_feedback(found: dict[str, Any], limit: int) -> None:
    record = found["record"] or {}
    rater = record.get("rater", {})
    says = found["says"]
    facts = {
        "feedback": found["feedback_id"],
        "given": when(record.get("given_at")) or "its record is gone",
        "by": f"{rater['role']} {rater['rater_id']}" if rater else None,
        "says": says,
        "conversation": record.get("conversation_id"),
        "state": found["state"],
        "claimed by run": ", ".join(map(str, found["claimed_by"])) or None,
        "left out": found["left_out"],
    }
    _facts(facts)
    rows = found["versions"]
    shown = [{name: value for name, value in row.items() if name != "said"} for row in rows]
    _section(shown or [{"version": "no version has seen it yet"}])
    _said_then(rows, says)
    carried = found["in_the_weights_of"]
    champion = found["champion"]
    serves = "among them" if champion in carried else "not among them"
    if found["champion_unknown"]:
        serves = "perhaps among them"
    console.print(
        f"\nIn the weights of: {', '.join(map(str, carried)) or 'no version'}"
        f" (the champion, {champion}, is {serves})."
    )
    if unknown := found["versions_without_data"]:
        listed = ", ".join(map(str, unknown))
        console.print(f"Not known of {listed}: what they learned from is not on this disk.")


def show_changed(found: dict[str, Any], limit: int) -> None:
    """Of a version that leaves somebody out; nothing of others."""
    if unknown := found["changed_unknown"]:
        console.print(f"\nWhat changed is not known: {unknown}.", soft_wrap=True)
    if (changed := found["changed"]) is None:
        return
    before, version = changed["before"], found["version"]
    console.print(f"\nChanged from version {before}, the champion when it was judged:")
    had, has = changed["customers"]
    facts = {
        "trained from": changed["parent"] or "the base model",
        "not built upon": ", ".join(map(str, changed["not_built_upon"])) or "none",
        "customers asked": None if None in (had, has) else f"{had} before, {has} now",
        "left out": _counts(changed["left_out"]) or "nothing",
        "used before, not now": _counts(changed["gone"]) or "nothing",
        "used now, not before": _counts(changed["new"]) or "nothing",
        "corrections lost": _some(changed["corrections_lost"], limit) or "none",
        "corrections left out": _some(changed["corrections_left_out"], limit) or "none",
    }
    _facts(facts)
    console.print(
        "\nUnder answers/ both answered the same questions at this gate; the rest is of each one's"
        " own gate.",
        soft_wrap=True,
    )
    shown = {n: v for n, v in changed["figures"].items() if n.startswith(_GATE)}
    _section(
        [
            {"figure": name, f"version {before}": _number(old), f"version {version}": _number(new)}
            for name, (old, new) in shown.items()
        ]
    )


def _facts(facts: dict[str, Any]) -> None:
    rows = [{"": name, "value": value} for name, value in facts.items() if value is not None]
    print_rows(rows, "", False)


def _section(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        console.print()
        print_rows(rows, "", False)


def _move(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("action", "version", "champion", "share", "by", "reason")
    shown = {"at": when(row["at"]), **{name: row[name] for name in kept}}
    return shown | {"reason": f"against the gate: {row['reason']}"} if row["forced"] else shown


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())


def _some(names: Sequence[str] | None, limit: int) -> str:
    named = list(names or ())
    rest = f"\nand {len(named) - limit} more; --json names them" if len(named) > limit else ""
    return "\n".join(named[:limit]) + rest


def _said_then(rows: Sequence[dict[str, Any]], says: str | None) -> None:
    """What the judgement said in a round, where it says something else now."""
    for row in rows:
        if says is not None and row["said"] not in (None, says):
            text = f"When version {row['version']} learned it said: {row['said']}"
            console.print(text, markup=False, soft_wrap=True)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
