"""What the pages of lineage say, computed from the JSON values of amends/lineage_records.py.

Pure. Invariant: where a list names fewer than there are, it says how many more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    )


def feedback_view(found: Mapping[str, Any]) -> FeedbackView:
    """Of what `of_feedback` found."""
    record: Mapping[str, Any] = found["record"] or {}
    rater = record.get("rater")
    carried = tuple(found["in_the_weights_of"])
    return FeedbackView(
        title=_title(record) if record else "Feedback whose record is gone",
        by=f"{rater['role']} {rater['rater_id']}" if rater else None,
        given_at=record.get("given_at"),
        text=record.get("response") or record.get("comment") or _ranked(record.get("responses")),
        conversation=_address(record),
        carried=carried,
        answers_now=found["champion"] in carried,
        answers_unknown=found["champion_unknown"],
    )


def _kind(kind: str, sides: Mapping[str, Sequence[str]]) -> KindView:
    placed = [
        Link.to(name, "" if side == "train" else side)
        for side, names in sides.items()
        for name in names
    ]
    return KindView(
        kind=kind,
        trained=len(placed) - len(sides["hold-out"]),
        held_out=len(sides["hold-out"]),
        ids=tuple(placed[:NAMED]),
        more=max(0, len(placed) - NAMED),
    )


def _title(record: Mapping[str, Any]) -> str:
    if record["kind"] == "thumb":
        return "Thumb up" if record["value"] > 0 else "Thumb down"
    if record["kind"] == "rating":
        return f"Rating: {record['value']} of 5"
    return str(record["kind"]).capitalize()


def _ranked(responses: Sequence[str] | None) -> str:
    return "\n".join(f"{place}. {text}" for place, text in enumerate(responses or (), 1))


def _address(record: Mapping[str, Any]) -> str | None:
    if not record:
        return None
    anchor = f"#turn-{record['turn_id']}" if "turn_id" in record else ""
    return f"/console/conversations/{record['conversation_id']}{anchor}"
