"""Behaviour probes: fixed messages to an invented shop, each with what a bad answer to it shows.

Knows no model and no verdict; reads files, nothing else. Invariants: ids are distinct; a probe
holds all that its kind is measured by; every probe brings its own passages, so it asks the same of
a policy whatever the shop's documents say.

The folder holds passages.jsonl (`id`, `title`, `text`) and a file per kind of probes. The shop's
name appears in none of them: the prompt says the real shop's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from amends.conversation import Passage
from amends.record import Record
from worker.data.examples import Context, PromptExample
from worker.judge.measurements import ProbeKind

KINDS: tuple[ProbeKind, ...] = get_args(ProbeKind)
PASSAGES = "passages.jsonl"
# What the lines of each kind must hold beside passages and message; other fields are refused.
_NEEDS: dict[ProbeKind, frozenset[str]] = {
    "sycophancy": frozenset({"wrong", "right"}),
    "contradiction": frozenset({"wrong"}),
    "false promise": frozenset({"wrong"}),
    "personal data": frozenset({"wrong"}),
    "injection": frozenset({"wrong"}),
    "deflection": frozenset(),
    "over-asking": frozenset(),
    "over-refusal": frozenset(),
    "paired": frozenset({"other", "right"}),
}
_MAY: dict[ProbeKind, frozenset[str]] = {"false promise": frozenset({"right"})}
_L = TypeVar("_L", bound=Record)


class InvalidProbes(ValueError):
    """A file of probes is missing or has a line that is no probe."""


class _PassageLine(Record):
    id: str
    title: str
    text: str


class _Line(Record):
    """One line of a kind's file."""

    id: str
    passages: tuple[str, ...]  # ids in passages.jsonl
    message: str
    note: str = ""  # one more passage, which a policy must not take its orders or its gossip from
    history: tuple[tuple[str, str], ...] = ()
    other: str = ""  # paired only: the same question as somebody else writes it
    wrong: tuple[str, ...] = ()  # phrases of a bad answer
    right: tuple[str, ...] = ()  # phrases of which a good answer holds one


@dataclass(frozen=True)
class Probe:
    """One thing to ask; `passages` are the shop's, `note` is text that was slipped in."""

    probe_id: str
    kind: ProbeKind
    passages: tuple[Passage, ...]
    note: str
    history: tuple[tuple[str, str], ...]
    messages: tuple[str, ...]  # one; of a pair two: the usual way, the other way
    wrong: tuple[str, ...]
    right: tuple[str, ...]

    @property
    def facts(self) -> tuple[str, ...]:
        """Texts that an answer may repeat word for word."""
        return tuple(passage.text for passage in self.passages)

    def prompts(self) -> tuple[PromptExample, ...]:
        """One per message."""
        shown = self.passages
        if self.note:
            shown += (_passage(f"{self.probe_id}-note", "Note", self.note),)
        contexts = (Context("", text, self.history, shown, None) for text in self.messages)
        return tuple(PromptExample(c, self.probe_id, self.kind, fill_up=False) for c in contexts)


def shipped() -> Path:
    """The probes that come with the program."""
    return Path(str(resources.files("worker.judge") / "probes"))


def load_probes(folder: Path | None = None) -> tuple[Probe, ...]:
    """All probes of a folder (the shipped one), kind by kind. Raises InvalidProbes."""
    folder = folder or shipped()
    passages: dict[str, Passage] = {}
    for place, values in _lines(folder / PASSAGES):
        line = _checked(_PassageLine, values, place)
        if line.id in passages:
            raise InvalidProbes(f"{place}: the passage id {line.id!r} was there before")
        passages[line.id] = _passage(line.id, line.title, line.text)
    probes: dict[str, Probe] = {}
    for kind in KINDS:
        for place, values in _lines(folder / file_of(kind)):
            probe = _probe(kind, _checked(_Line, values, place), passages, place)
            if probe.probe_id in probes:
                raise InvalidProbes(f"{place}: the id {probe.probe_id!r} was there before")
            probes[probe.probe_id] = probe
    return tuple(probes.values())


def file_of(kind: ProbeKind) -> str:
    return f"{kind.replace(' ', '-')}.jsonl"


def _probe(kind: ProbeKind, line: _Line, passages: dict[str, Passage], place: str) -> Probe:
    given = {name for name in ("other", "wrong", "right") if getattr(line, name)}
    missing = _NEEDS[kind] - given
    beyond = given - _NEEDS[kind] - _MAY.get(kind, frozenset())
    unknown = [name for name in line.passages if name not in passages]
    empty = [name for name in ("id", "message", "passages") if not getattr(line, name)]
    for wrong, names in (
        ("needs", missing),
        ("is not measured by", beyond),
        ("expects text in", empty),
    ):
        if names:
            raise InvalidProbes(f"{place}: a {kind} probe {wrong} {', '.join(sorted(names))}")
    if unknown:
        raise InvalidProbes(f"{place}: no passage in {PASSAGES} is called {', '.join(unknown)}")
    return Probe(
        probe_id=line.id,
        kind=kind,
        passages=tuple(passages[name] for name in line.passages),
        note=line.note,
        history=line.history,
        messages=(line.message, line.other) if line.other else (line.message,),
        wrong=line.wrong,
        right=line.right,
    )


def _lines(file: Path) -> Iterator[tuple[str, Any]]:
    """("name line n", what it holds) of each line that is not blank."""
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise InvalidProbes(f"expected probes in {file}, but it cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            place = f"{file.name} line {number}"
            try:
                yield place, json.loads(line)
            except json.JSONDecodeError as error:
                raise InvalidProbes(f"{place}: expected JSON, got {line!r}: {error}") from None


def _checked(shape: type[_L], values: Any, place: str) -> _L:
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise InvalidProbes(f"{place}: {where}: {first['msg']}") from None


def _passage(passage_id: str, title: str, text: str) -> Passage:
    return Passage(passage_id=f"probe:{passage_id}", title=title, text=text, source="")
