"""audit.jsonl: who moved which alias to which version, why and when.

Knows no aliases: adapter_aliases writes each move there and here. Invariants: rows are only ever
appended, and their numbers grow; a reader parses as many of the newest rows as it asks for, so what
is unreadable before them stops nobody.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from amends.durable_file import append_line
from amends.errors import AdapterRefused
from amends.record import Record

Action = Literal["new_line", "publish", "activate", "set_candidate", "roll_back"]
_SHOWN_BYTES = 60


class AuditRow(Record):
    """Who did what to which version, why and when (seconds since the epoch).

    `share`: of the conversations that begin, which the candidate answers from then on. `forced`:
    against what the gate says.
    """

    number: int
    at: float
    by: str
    action: Action
    version: int | None
    champion: int
    reason: str
    share: float | None = None
    forced: bool = False


def candidate_after(before: int | None, row: AuditRow) -> int | None:
    """The candidate once this row is written, where `before` was it."""
    if row.action == "set_candidate":
        return row.version
    return before if row.action == "publish" else None


def candidacy(newest: Iterable[AuditRow]) -> list[AuditRow]:
    """The rows from the one that made the present candidate the candidate, oldest first; none
    without a candidate. `newest` is read no further back than that."""
    rows: list[AuditRow] = []
    candidate, began = None, 0
    for row in newest:
        rows.append(row)
        if row.action == "publish":
            continue
        another = candidate is not None and row.version != candidate
        if row.action != "set_candidate" or row.version is None or another:
            break
        candidate, began = row.version, len(rows)
    return rows[:began][::-1]


class AuditFile:
    """Writers hold the store's lock; readers need none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self) -> Iterator[AuditRow]:
        """The newest row first, parsed as it is asked for. AdapterRefused: one cannot be read."""
        for number, line in self._lines():
            try:
                yield AuditRow.model_validate_json(line)
            except ValidationError as error:
                raise AdapterRefused(
                    f"{self._path}, line {number}: expected a row as this program writes it, got "
                    f"{line[:_SHOWN_BYTES]!r}. Correct or remove the line: no alias depends on it"
                ) from error

    def last_number(self) -> int:
        """Of the newest row that can be read; 0: there is none."""
        for _, line in self._lines():
            with suppress(ValidationError):
                return AuditRow.model_validate_json(line).number
        return 0

    def append(self, row: AuditRow) -> None:
        append_line(self._path, row.model_dump_json().encode())

    def _lines(self) -> Iterable[tuple[int, bytes]]:
        """(number from 1 on, line), the last one first; not what a crash left of one."""
        try:
            lines = self._path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            lines = []
        return reversed(list(enumerate(lines, 1)))
