"""Adapter versions on disk, and the aliases that point at them: publish, activate, roll back.

Knows no Redis and no torch. Invariants: a version is written once and never changes; a reader
never sees half of one; a run publishes at most one; version numbers are never given twice, not
even across lines or deletions; version 0 is the base model and has no folder; only who may start
a line resets the aliases.

    root/{version:06d}/   adapter_model.safetensors, adapter_config.json (as PEFT loads them) and
                          manifest.json, written last
    root/aliases.json     where the aliases point; root/audit.jsonl: every move (adapter_audit)
    root/.staging/        folders being written; root/.lock: held by writers
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from amends.adapter_aliases import Aliases, AliasFile
from amends.adapter_audit import AuditRow
from amends.adapter_folders import folder_of, versions_in
from amends.adapter_manifest import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    Manifest,
    check_files,
    check_version,
    hash_file,
    origin_of,
    read_manifest,
)
from amends.adapter_staging import Staging
from amends.durable_file import locked, replace_file, sync_file, sync_folder
from amends.errors import AdapterRefused, BadTransition, InvalidInput, NotFound
from amends.record import now_s
from amends.verdict import Verdict

logger = logging.getLogger(__name__)


class AdapterStore:
    """The adapters of one install, for the base model whose hash is `base_hash`."""

    def __init__(self, root: Path, base_hash: str, *, may_start_line: bool = False) -> None:
        """Opens or makes the store. Another base model than last time starts a new line of
        versions, champion 0, where `may_start_line`; else it is AdapterRefused.
        """
        self._root = root
        self.base_hash = base_hash
        self._staging = Staging(root / ".staging")
        self._file = AliasFile(root)
        with locked(root / ".lock"):
            aliases = self._file.read()
            if aliases is None:
                self._file.start_line(base_hash, None, self._next_version(None))
                return
            if aliases.base_hash != base_hash and not may_start_line:
                raise self._foreign(aliases.base_hash)
            aliases = self._file.end_what_another_champion_ended(self._recover(aliases))
            if aliases.base_hash != base_hash:
                new = self._file.start_line(base_hash, aliases, self._next_version(aliases))
                logger.warning(
                    "line %d of adapters starts at version 0: %s", new.line, new.last_row.reason
                )

    def stage(self, run_id: int) -> Path:
        """An empty folder for the run to write weights and configuration into, then hand to
        `publish`.
        """
        return self._staging.new(run_id)

    def publish(
        self,
        folder: Path,
        *,
        parent: int,
        run_id: int,
        data_manifest_hash: str,
        metrics: Mapping[str, float],
        verdict: Verdict | None,
        fence: Callable[[], None],
        run_created_at: float = 0.0,
    ) -> Manifest:
        """Make the staged folder the next version, durable when this returns; the folder is gone.

        `fence` raises (LeaseLost) when the run is no longer the caller's; nothing is published.
        A run that has a version (`of_run`) gets that one. Raises AdapterRefused, InvalidInput.
        """
        if not self._staging.holds(folder):
            raise InvalidInput(f"{folder} must be a folder that stage() gave")
        with self._writing() as aliases:
            earlier = self.of_run(run_id, run_created_at)
            if earlier is not None:
                self._staging.sweep(run_id)
                return earlier
            fence()
            check_files(folder, {WEIGHTS, CONFIG})
            try:
                manifest = Manifest(
                    version=self._next_version(aliases),
                    parent=parent,
                    base_hash=self.base_hash,
                    line=aliases.line,
                    run_id=run_id,
                    data_manifest_hash=data_manifest_hash,
                    metrics=dict(metrics),
                    verdict=verdict,
                    files={name: hash_file(folder / name) for name in (WEIGHTS, CONFIG)},
                    created_at=now_s(),
                )
            except ValidationError as error:
                raise InvalidInput(f"run {run_id} cannot be published: {error}") from error
            for name in (WEIGHTS, CONFIG):
                sync_file(folder / name)
            replace_file(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
            folder.chmod(0o755)
            folder.rename(folder_of(self._root, manifest.version))
            sync_folder(self._root)
            self._recover(aliases)
            self._staging.sweep(run_id)
            return manifest

    def get(self, version: int) -> Manifest:
        """The version's manifest, unchecked; NotFound."""
        return read_manifest(self.folder(version))

    def folder(self, version: int) -> Path:
        """Where PEFT or vLLM may load the version from; NotFound, also for 0, the base model."""
        path = folder_of(self._root, version)
        if version == 0:
            raise NotFound("version 0 is the base model: it has no adapter folder")
        if not path.is_dir():
            raise NotFound(f"no adapter version {version}")
        return path

    def list(self) -> list[Manifest]:
        """Every version of every line that has a readable manifest, oldest first."""
        found = []
        for version in versions_in(self._root):
            try:
                found.append(read_manifest(folder_of(self._root, version)))
            except AdapterRefused:
                continue
        return found

    def of_run(self, run_id: int, run_created_at: float = 0.0) -> Manifest | None:
        """The version that the run published. An older one is of another run that had its id:
        ids start again with an empty store, versions outlive it.
        """
        for manifest in reversed(self.list()):
            if manifest.run_id == run_id and manifest.created_at >= run_created_at:
                return manifest
        return None

    def verify(self, version: int) -> Manifest:
        """Check the version's files against its manifest and this base model; AdapterRefused,
        NotFound.

        Covers names, kinds, hashes and configuration; the tensors are checked by whoever loads
        them.
        """
        return check_version(self.folder(version), version, self.base_hash)

    def alias(self, name: str) -> int:
        """The version that champion, candidate or previous points at; NotFound when at none."""
        aliases = self.aliases()
        if name not in aliases:
            raise NotFound(f"no version is {name}")
        return aliases[name]

    def aliases(self) -> dict[str, int]:
        """name -> version, of those that point somewhere; champion always does."""
        return self.pointers().as_dict()

    def pointers(self) -> Aliases:
        """All aliases and the candidate's share, of one moment. AdapterRefused: of another base
        model."""
        aliases = self._file.read()
        if aliases is None or aliases.base_hash != self.base_hash:
            raise self._foreign("nothing" if aliases is None else aliases.base_hash)
        return aliases

    def activate(
        self, version: int, by: str, reason: str, *, force: bool = False, seen: int | None = None
    ) -> None:
        """Make `version` the champion, the champion the previous; champion already: no move.

        AdapterRefused when its files or base model do not fit, or its verdict is not a pass beside
        this champion (unless `force`, which the audit says). `seen`: as in `set_candidate`.
        """
        with self._writing(seen) as aliases:
            if version == aliases.champion:
                return
            forced = version != 0 and self.verify(version).forced(aliases.champions, force)
            self._file.activate(aliases, version, by, reason, forced)

    def set_candidate(
        self,
        version: int | None,
        by: str = "worker",
        reason: str = "passed the gate",
        *,
        share: float | None = None,
        force: bool = False,
        seen: int | None = None,
    ) -> None:
        """Point the candidate at `version`, or at nothing; it answers `share` (0 to 1) of the
        conversations that begin from now on. None: the share that it has, which is 0 at first;
        BadTransition when another one is the candidate, whose trial may be paused.

        Champion or so already: nothing happens. AdapterRefused when its files do not fit (a trial
        can be paused without), or when visitors would be answered against the gate's verdict
        (unless `force`). InvalidInput: the share, or one for the champion. NotFound. BadTransition:
        a row came after the one `seen`.
        """
        if share and (version is None or not 0 <= share <= 1):
            raise InvalidInput(f"expected a share of 0 to 1 of a version, got {share} of {version}")
        with self._writing(seen) as aliases:
            if version is not None and version == aliases.champion:
                if share:
                    raise InvalidInput(f"version {version} is the champion: it answers already")
                return
            forced = False
            if version is not None and (share or version != aliases.candidate):
                manifest = self.verify(version)
                forced = bool(share) and manifest.forced(aliases.champions, force)
            self._file.set_candidate(aliases, version, share, by, reason, forced)

    def roll_back(self, by: str, reason: str, expected: int | None = None) -> int:
        """Make the previous champion champion again and return its version; once more goes
        further back.

        `expected` is the champion to leave, so that asking twice moves once: BadTransition when it
        has gone. InvalidInput when there is none before. AdapterRefused when its files are damaged:
        activate 0 then.
        """
        with self._writing() as aliases:
            if expected is not None and expected != aliases.champion:
                raise BadTransition(
                    f"expected version {expected} as the champion to roll back from, it is version "
                    f"{aliases.champion} by now: nothing was changed; look again, then decide"
                )
            version = aliases.previous
            if version is None:
                raise InvalidInput("no champion before this one: activate a version by its number")
            if version != 0:
                self.verify(version)
            self._file.roll_back(aliases, version, by, reason)
            return version

    def audit(self, limit: int | None = 100) -> tuple[AuditRow, ...]:
        """The newest rows first; None: all of them. AdapterRefused: one cannot be read."""
        return tuple(islice(self.newest(), limit))

    def newest(self) -> Iterator[AuditRow]:
        """As `audit`, read as far back as it is asked for."""
        return self._file.newest()

    def _foreign(self, owner: str) -> AdapterRefused:
        return AdapterRefused(
            f"the adapters in {self._root} are those of base model {owner}, this process has "
            f"{self.base_hash}: set AMENDS_BASE_MODEL as `amends up` has it and start it again"
        )

    @contextmanager
    def _writing(self, seen: int | None = None) -> Iterator[Aliases]:
        with locked(self._root / ".lock"):
            aliases = self._recover(self.pointers())
            aliases.require(seen)
            yield aliases

    def _recover(self, aliases: Aliases) -> Aliases:
        """Bring aliases and audit together after a crash or a restored backup; record versions
        whose folder is complete."""
        aliases = self._file.catch_up(aliases)
        for version in versions_in(self._root):
            if version >= aliases.next_version:
                by, reason = origin_of(folder_of(self._root, version))
                aliases = self._file.move(
                    aliases,
                    action="publish",
                    version=version,
                    by=by,
                    reason=reason,
                    candidate=aliases.candidate,
                    next_version=version + 1,
                )
        return aliases

    def _next_version(self, aliases: Aliases | None) -> int:
        noted = aliases.next_version if aliases is not None else 1
        return max([noted, *(version + 1 for version in versions_in(self._root))])
