"""Which version is champion, candidate, previous; every move is told to the audit.

Knows no adapter files. Another champion ends a candidacy: nobody compared the candidate with it.
Schema 1 of aliases.json had no `candidate_share`: it is read as 0, and the
next move writes schema 2. Invariants: a move and its audit row are one atomic write (the row
travels in aliases.json and is copied to audit.jsonl; what a crash kept from being copied is copied
by the next writer); rows are only ever appended.
"""

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from amends.adapter_audit import Action, AuditFile, AuditRow
from amends.durable_file import replace_file
from amends.errors import AdapterRefused, BadTransition
from amends.record import Record, now_s

logger = logging.getLogger(__name__)

_HISTORY = 100


class Aliases(Record):
    """The content of aliases.json. `history` holds the champions before this one, the last one
    last. `candidate_share` of the conversations that begin are answered by the candidate.
    """

    schema_version: Literal[1, 2] = 2
    base_hash: str
    line: int
    next_version: int = Field(1, description="no smaller number is ever given again")
    champion: int = 0
    candidate: int | None = None
    candidate_share: float = Field(0.0, ge=0, le=1)
    history: tuple[int, ...] = ()
    last_row: AuditRow

    @property
    def previous(self) -> int | None:
        return self.history[-1] if self.history else None

    @property
    def champions(self) -> tuple[int, ...]:
        """The one that answers last, those that it may be rolled back to before it."""
        return (*self.history, self.champion)

    def require(self, seen: int | None) -> None:
        """BadTransition unless the last row is the one whose number the caller has `seen`."""
        if seen is not None and seen != self.last_row.number:
            raise BadTransition(
                f"expected row {seen} to be the audit log's last, it is {self.last_row.number} by "
                "now: nothing was changed; look again, then decide"
            )

    def as_dict(self) -> dict[str, int]:
        """name -> version, of the aliases that point somewhere."""
        named = {"champion": self.champion, "candidate": self.candidate, "previous": self.previous}
        return {name: version for name, version in named.items() if version is not None}


class AliasFile:
    """aliases.json and audit.jsonl in `root`. Writers hold the store's lock; readers need none."""

    def __init__(self, root: Path) -> None:
        self._aliases = root / "aliases.json"
        self._audit = AuditFile(root / "audit.jsonl")

    def read(self) -> Aliases | None:
        try:
            return Aliases.model_validate_json(self._aliases.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise AdapterRefused(
                f"{self._aliases}: expected the aliases that this program writes, got {error}. "
                "Restore the file from a backup; the adapters themselves are untouched."
            ) from error

    def start_line(self, base_hash: str, before: Aliases | None, next_version: int) -> Aliases:
        """All aliases at the base model; version numbers go on."""
        line = before.line + 1 if before is not None else 1
        reason = (
            f"the base model changed from {before.base_hash} to {base_hash}"
            if before is not None
            else f"first use, with base model {base_hash}"
        )
        row = self._row(before, "new_line", None, 0, "amends", reason)
        new = Aliases(base_hash=base_hash, line=line, next_version=next_version, last_row=row)
        return self._write(new)

    def activate(
        self, before: Aliases, version: int, by: str, reason: str, forced: bool = False
    ) -> Aliases:
        """`version` is champion, the champion before it the previous."""
        return self._lead(before, "activate", version, before.champions, by, reason, forced)

    def roll_back(self, before: Aliases, version: int, by: str, reason: str) -> Aliases:
        """`version`, the previous, is champion again."""
        return self._lead(before, "roll_back", version, before.history[:-1], by, reason)

    def _lead(
        self,
        before: Aliases,
        action: Action,
        version: int,
        history: tuple[int, ...],
        by: str,
        reason: str,
        forced: bool = False,
    ) -> Aliases:
        """`version` is champion, and no version the candidate."""
        return self.move(
            before,
            action=action,
            version=version,
            by=by,
            reason=reason,
            champion=version,
            candidate=None,
            history=history,
            forced=forced,
        )

    def set_candidate(
        self,
        before: Aliases,
        version: int | None,
        share: float | None,
        by: str,
        reason: str,
        forced: bool = False,
    ) -> Aliases:
        """`share` None: the one that it has. As it is already: nothing is written. BadTransition:
        another one is the candidate, and no share says that this is meant."""
        if version == before.candidate and share in (None, before.candidate_share):
            return before
        if share is None and version is not None and before.candidate is not None:
            raise BadTransition(
                f"nothing was changed: version {before.candidate} is the candidate; a share, of 0 "
                f"too, puts version {version} in its place"
            )
        return self.move(
            before,
            action="set_candidate",
            version=version,
            by=by,
            reason=reason,
            candidate=version,
            share=share,
            forced=forced,
        )

    def move(
        self,
        before: Aliases,
        *,
        action: Action,
        version: int | None,
        by: str,
        reason: str,
        champion: int | None = None,
        candidate: int | None = None,
        share: float | None = None,
        history: tuple[int, ...] | None = None,
        next_version: int | None = None,
        forced: bool = False,
    ) -> Aliases:
        """Write the aliases after `action`; `candidate` is the new value, None included. It keeps
        its share unless another is given."""
        champion = before.champion if champion is None else champion
        kept = before.candidate_share if candidate == before.candidate else 0.0
        new = before.model_copy(
            update={
                "schema_version": 2,
                "champion": champion,
                "candidate": candidate,
                "candidate_share": kept if share is None else share,
                "history": (before.history if history is None else history)[-_HISTORY:],
                "next_version": before.next_version if next_version is None else next_version,
                "last_row": self._row(before, action, version, champion, by, reason, share, forced),
            }
        )
        return self._write(new)

    def newest(self) -> Iterator[AuditRow]:
        """The newest row first, also one that a crash kept from audit.jsonl; read as far as it is
        asked for. AdapterRefused: a row cannot be read."""
        aliases = self.read()  # first: all rows before its last one are in the file by then
        rows = self._audit.newest()
        row = next(rows, None)
        if aliases is not None and (row is None or row.number < aliases.last_row.number):
            yield aliases.last_row
        if row is not None:
            yield row
        yield from rows

    def catch_up(self, aliases: Aliases) -> Aliases:
        """Copy the last row to audit.jsonl where a crash came between. An audit that is ahead tells
        of moves that the aliases do not know, as after a backup was restored: numbers go on after
        it, and nobody can say what the candidate was compared with, so there is none."""
        last = self._audit.last_number()
        if last < aliases.last_row.number:
            self._audit.append(aliases.last_row)
        if last <= aliases.last_row.number:
            return aliases
        known = aliases.last_row.model_copy(update={"number": last})
        return self.move(
            aliases.model_copy(update={"last_row": known}),
            action="set_candidate",
            version=None,
            by="amends",
            reason="aliases.json is older than the audit",
        )

    def end_what_another_champion_ended(self, aliases: Aliases) -> Aliases:
        """Installs of before let a trial go on beside the next champion, where nobody looks."""
        if aliases.candidate is None:
            return aliases
        try:
            last = self._last_decision(aliases)
        except AdapterRefused as refused:
            logger.error("whether another champion ended the trial cannot be read: %s", refused)
            return aliases
        if last is None or last.action == "set_candidate":
            return aliases
        reason = "another champion ended its trial"
        return self.set_candidate(aliases, None, None, "amends", reason)

    def _last_decision(self, aliases: Aliases) -> AuditRow | None:
        """The newest row that is no publication; None where a row after it is missing, which may
        have been one."""
        for number, row in zip(count(aliases.last_row.number, -1), self.newest(), strict=False):
            if row.number != number:
                return None
            if row.action != "publish":
                return row
        return None

    def _write(self, aliases: Aliases) -> Aliases:
        replace_file(self._aliases, aliases.model_dump_json(indent=1).encode())
        self._audit.append(aliases.last_row)
        return aliases

    @staticmethod
    def _row(
        before: Aliases | None,
        action: Action,
        version: int | None,
        champion: int,
        by: str,
        reason: str,
        share: float | None = None,
        forced: bool = False,
    ) -> AuditRow:
        return AuditRow(
            number=before.last_row.number + 1 if before is not None else 1,
            at=now_s(),
            by=by,
            action=action,
            version=version,
            champion=champion,
            reason=reason,
            share=share,
            forced=forced,
        )
