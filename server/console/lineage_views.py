"""What the pages of lineage say, computed from the JSON values of amends/lineage_records.py.

Pure. Invariant: where a list names fewer than there are, it says how many more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amends.lineage import NOT_LEARNED

NAMED = 200  # pieces of feedback of a kind that a page names
RATERS = 20
SHOWN = 8  # characters of a turn's or a visitor's id


@dataclass(frozen=True)
class Link:
    """To a piece of feedback; ids are long, so the text is the start of what tells it apart."""

    feedback_id: str
    text: str
    note: str = ""

    @classmethod
    def to(cls, feedback_id: str, note: str = "") -> "Link":
        _, target, rater = feedback_id.split(":", 2)
        return cls(feedback_id, f"{target[:SHOWN]} by {rater[:SHOWN]}", note)


@dataclass(frozen=True)
class KindView:
    """The feedback of one kind that a version used; `more` have no link."""

    kind: str
    trained: int
    held_out: int
    not_learned: int
    ids: tuple[Link, ...]
    more: int


@dataclass(frozen=True)
class VersionView:
    """`ancestry` from the parent to the base model; `fates` of corrections, those that any had."""

    ancestry: tuple[int, ...]
    kinds: tuple[KindView, ...]
    raters: tuple[Mapping[str, Any], ...]
    more_raters: int
    fates: tuple[tuple[str, int, tuple[Link, ...]], ...]
    beside: int | None
    changes: tuple[str, ...]  # where somebody is left out


@dataclass(frozen=True)
class FeedbackView:
    """One judgement. `text`: what an expert wrote, or the visitor's comment."""

    title: str
    by: str | None
    given_at: float | None
    text: str
    conversation: str | None  # address of its page
    carried: tuple[int, ...]
    answers_now: bool  # the champion's weights learned from it
    answers_unknown: bool  # or may have: of some of its rounds the data are gone


def version_view(found: Mapping[str, Any]) -> VersionView:
    """Of what `of_adapter` found."""
    raters = found["raters"]
    corrections = found["corrections"]
    return VersionView(
        ancestry=tuple(found["ancestry"]),
        kinds=tuple(_kind(kind, sides) for kind, sides in found["feedback"].items()),
        raters=tuple(raters[:RATERS]),
        more_raters=max(0, len(raters) - RATERS),
        fates=tuple(
            (fate, count, tuple(map(Link.to, corrections["ids"].get(fate, ())[:NAMED])))
            for fate, count in corrections["counts"].items()
            if count
        ),
        beside=corrections["beside"],
        changes=_changes(found["changed"]) if found["changed"] else (),
    )


def feedback_view(found: Mapping[str, Any]) -> FeedbackView:
    """Of what `of_feedback` found."""
    record: Mapping[str, Any] = found["record"] or {}
    rater = record.get("rater")
    written = record.get("kind") in ("correction", "ranking")
    carried = tuple(found["in_the_weights_of"])
    return FeedbackView(
        title=_title(record, found["says"]) if record else "Feedback whose record is gone",
        by=f"{rater['role']} {rater['rater_id']}" if rater else None,
        given_at=record.get("given_at"),
        text=found["says"] if written else record.get("comment", ""),
        conversation=_address(record),
        carried=carried,
        answers_now=found["champion"] in carried,
        answers_unknown=found["champion_unknown"],
    )


def _changes(changed: Mapping[str, Any]) -> tuple[str, ...]:
    """Beside the champion of then, a line each."""
    had, has = changed["customers"]
    behind = [f"version {number}" for number in changed["not_built_upon"]]
    parent = f"version {changed['parent']}" if changed["parent"] else "the base model"
    said = {
        "Trained from": parent,
        "Not built upon": ", ".join(behind) or "none",
        "Customers asked": None if None in (had, has) else f"{had} before, {has} now",
        "Judgements left out": _counts(changed["left_out"]),
        "Used before, not now": _counts(changed["gone"]),
        "Used now, not before": _counts(changed["new"]),
        "Corrections lost": f"{len(changed['corrections_lost'])}",
        "Corrections left out": f"{len(changed['corrections_left_out'])}",
    }
    return tuple(f"{name}: {value}" for name, value in said.items() if value is not None)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"


def _kind(kind: str, sides: Mapping[str, Sequence[str]]) -> KindView:
    placed = [
        Link.to(name, "" if side == "train" else side)
        for side, names in sides.items()
        for name in names
    ]
    return KindView(
        kind=kind,
        trained=len(placed) - len(sides["hold-out"]) - len(sides[NOT_LEARNED]),
        held_out=len(sides["hold-out"]),
        not_learned=len(sides[NOT_LEARNED]),
        ids=tuple(placed[:NAMED]),
        more=max(0, len(placed) - NAMED),
    )


def _title(record: Mapping[str, Any], says: str) -> str:
    match record["kind"]:
        case "thumb":
            return says.capitalize()
        case "rating":
            return f"Rating: {says}"
        case kind:
            return str(kind).capitalize()


def _address(record: Mapping[str, Any]) -> str | None:
    if not record:
        return None
    anchor = f"#turn-{record['turn_id']}" if "turn_id" in record else ""
    return f"/console/conversations/{record['conversation_id']}{anchor}"
