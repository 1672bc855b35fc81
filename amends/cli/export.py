"""`amends export`: conversations and feedback as JSONL files in the columns that TRL reads.

Knows TRL's dataset formats (conversational: a prompt is a list of messages), not where records are
kept. Invariants: a file holds exactly TRL's columns; the folder appears whole, and manifest.json
names every file with its rows and SHA-256; whom rounds leave out is left out here. Redacts nothing:
the files hold what visitors wrote.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amends.cli.install import opened_store, read_settings
from amends.cli.output import AsJson, note, print_json, print_rows
from amends.conversation import Conversation, Turn, prompt_turns
from amends.errors import InvalidInput
from amends.exclusion import Exclusion, covering
from amends.feedback import Correction, Feedback, Ranking, Thumb
from amends.record import now_s

if TYPE_CHECKING:
    from amends.store_client import StoreClient

Messages = list[dict[str, str]]
PAGE = 200


class Kind(StrEnum):
    """TRL's names for the shapes of a dataset."""

    PREFERENCE = "preference"
    UNPAIRED = "unpaired-preference"
    COMPLETION = "prompt-completion"
    MESSAGES = "messages"


def export(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    kind: Annotated[
        list[Kind] | None, typer.Option(help="Write this kind only; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write conversations and feedback for other training programs.

    preference: corrections and rankings as prompt, chosen, rejected. unpaired-preference: thumbs as
    prompt, completion, label. prompt-completion: corrections. messages: whole conversations. Whom
    rounds leave out (`amends exclusions`) is left out.
    """
    from amends.exclusion_store import ExclusionStore
    from amends.knowledge import Knowledge, folder_of

    if folder.exists():
        raise InvalidInput(f"{folder}: expected a folder that does not exist yet")
    settings = read_settings()
    shop = Knowledge.load(folder_of(settings)).shop.name
    kinds = kind or list(Kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        fresh = Path(work, "export")
        fresh.mkdir()
        with opened_store(settings) as (_, store):
            source = Source(store, ExclusionStore(store).standing())
            counts = write_files(fresh, shop, source.everything(), kinds)
        files = {
            f"{k}.jsonl": {"rows": counts[k], "sha256": sha256(fresh / f"{k}.jsonl")} for k in kinds
        }
        manifest = {"schema_version": 1, "created_at": now_s(), "shop": shop, "files": files}
        manifest["left_out"] = dict(+source.left_out)
        (fresh / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        fresh.rename(folder)
    if as_json:
        print_json(manifest)
        return
    print_rows([{"file": str(folder / f"{k}.jsonl"), "rows": counts[k]} for k in kinds], "", False)
    for what, count in sorted((+source.left_out).items()):
        note(f"Left out: {count} {what} (`amends exclusions list` shows whose).")
    note("Not redacted: the files hold what visitors wrote.")


@dataclass
class Source:
    """Conversations and feedback of the store, but for whom `standing` leaves out."""

    store: "StoreClient"
    standing: Sequence[Exclusion]
    left_out: Counter[str] = field(default_factory=Counter)  # "conversations", "judgements"

    def everything(self) -> Iterator[tuple[Conversation, list[Feedback]]]:
        """Every conversation with the feedback on it, newest first."""
        from amends.conversation_store import ConversationStore
        from amends.feedback_store import FeedbackStore

        customers = {item.name for item in self.standing if item.kind == "customer"}
        conversations, feedback = ConversationStore(self.store), FeedbackStore(self.store)
        before, seen = None, set[str]()
        while page := conversations.recent(PAGE, before):
            for conversation in page:
                if conversation.conversation_id in seen:
                    continue  # it spoke, and so moved up, while we read
                seen.add(conversation.conversation_id)
                if conversation.visitor_id in customers:
                    self.left_out["conversations"] += 1
                    continue
                given = feedback.of_conversation(conversation.conversation_id)
                kept = [one for one in given if not self._covers(one)]
                self.left_out["judgements"] += len(given) - len(kept)
                yield conversation, kept
            before = page[-1].conversation_id

    def _covers(self, given: Feedback) -> bool:
        return covering(self.standing, given.rater.rater_id, None) is not None


def write_files(
    folder: Path,
    shop: str,
    source: Iterator[tuple[Conversation, list[Feedback]]],
    kinds: Sequence[Kind],
) -> dict[Kind, int]:
    """One JSONL file per kind; returns the rows of each."""
    counts = dict.fromkeys(kinds, 0)
    handles = {kind: (folder / f"{kind}.jsonl").open("w", encoding="utf-8") for kind in kinds}
    try:
        for conversation, feedback in source:
            for kind in kinds:
                for row in rows_of(kind, shop, conversation, feedback):
                    handles[kind].write(json.dumps(row, ensure_ascii=False) + "\n")
                    counts[kind] += 1
    finally:
        for handle in handles.values():
            handle.close()
    return counts


def rows_of(
    kind: Kind, shop: str, conversation: Conversation, feedback: Sequence[Feedback]
) -> Iterator[dict[str, Any]]:
    """The rows that one conversation gives to one kind of file."""
    if kind is Kind.MESSAGES:
        if conversation.turns:
            yield {"messages": spoken(conversation.turns)}
        return
    turns = {turn.turn_id: turn for turn in conversation.turns}
    for item in feedback:
        turn = turns.get(getattr(item, "turn_id", ""))
        if turn is None:
            continue  # a rating judges the conversation, not one response
        prompt = prompt_of(shop, conversation, turn)
        match kind, item:
            case Kind.PREFERENCE, Correction() if item.response != turn.response:
                yield {"prompt": prompt, **pair(item.response, turn.response)}
            case Kind.PREFERENCE, Ranking():
                for better, worse in combinations(item.responses, 2):
                    yield {"prompt": prompt, **pair(better, worse)}
            case Kind.UNPAIRED, Thumb():
                completion = said(turn.response)
                yield {"prompt": prompt, "completion": completion, "label": item.value == 1}
            case Kind.COMPLETION, Correction():
                yield {"prompt": prompt, "completion": said(item.response)}
            case _:
                pass


def prompt_of(shop: str, conversation: Conversation, turn: Turn) -> Messages:
    """What the policy saw: system prompt with passages, earlier turns, the message."""
    from amends.prompt import prompt_messages

    earlier = conversation.turns[: conversation.turns.index(turn)]
    shown = prompt_turns(earlier)[turn.dropped_turns :]
    history = [(said.message, said.response) for said in shown]
    return prompt_messages(shop, turn.passages, history, turn.message)


def spoken(turns: Sequence[Turn]) -> Messages:
    """Turns as alternating messages of user and assistant."""
    return [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn.message}, *said(turn.response))
    ]


def pair(chosen: str, rejected: str) -> dict[str, Messages]:
    return {"chosen": said(chosen), "rejected": said(rejected)}


def said(response: str) -> Messages:
    return [{"role": "assistant", "content": response}]


def sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
