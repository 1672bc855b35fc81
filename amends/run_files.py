"""What a round leaves on disk in its run's folder for lineage: data_manifest.json and
corrections.json.

Knows no store and no training. Run numbers start again with an empty store while versions outlive
it, so a folder may be of another run of that number, whose files are kept under their hash.
Invariant: what is read belongs to the version it is read for, by the hash that the version's
manifest carries.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from amends.adapter_manifest import Manifest
from amends.correction_outcomes import CorrectionOutcomes
from amends.data_manifest import DataManifest
from amends.durable_file import replace_file
from amends.errors import NotFound
from amends.lineage import Version

logger = logging.getLogger(__name__)

DATA_MANIFEST = "data_manifest.json"
_OUTCOMES = "corrections.json"


def read_data_manifest(runs_folder: Path, version: Manifest) -> DataManifest:
    """What the version learned from. NotFound when its run's folder is gone or another's."""
    path = _path(runs_folder, version, DATA_MANIFEST)
    told = f"expected the data manifest of version {version.version} at {path}"
    hint = "set AMENDS_HOME as the worker has it, or restore the folder from a backup"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{told}, there is none: {hint}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != version.data_manifest_hash:
        expected = version.data_manifest_hash
        raise NotFound(f"{told} with SHA-256 {expected}, got one with {found}: {hint}")
    try:
        return DataManifest.model_validate_json(content)
    except ValidationError as error:
        raise NotFound(f"{told}, it is of a schema this program cannot read: {error}") from error


def read_versions(runs_folder: Path, manifests: Iterable[Manifest]) -> dict[int, Version]:
    """All versions with what is known of their data, by number."""
    found = {}
    for manifest in manifests:
        try:
            data = read_data_manifest(runs_folder, manifest)
        except NotFound as error:
            logger.info("%s", error)
            data = None
        outcomes = read_outcomes(runs_folder, manifest)
        found[manifest.version] = Version(manifest, data, outcomes)
    return found


def set_aside(folder: Path) -> None:
    """Make room for another run of this number; versions find their files all the same."""
    manifest = folder / DATA_MANIFEST
    if manifest.is_file():
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        for path in (folder / _OUTCOMES, manifest):  # the last one says that it is done
            if path.is_file():
                path.rename(_aside(path, digest))


def write_outcomes(folder: Path, outcomes: CorrectionOutcomes) -> None:
    """Into the run's folder, durable when this returns."""
    replace_file(folder / _OUTCOMES, outcomes.model_dump_json(indent=1).encode())


def read_outcomes(runs_folder: Path, version: Manifest) -> CorrectionOutcomes | None:
    """None where the round recorded none, or the file is torn or another round's."""
    path = _path(runs_folder, version, _OUTCOMES)
    try:
        found = CorrectionOutcomes.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        logger.warning("%s is of a schema this program cannot read: %s", path, error)
        return None
    return found if found.data_manifest_hash == version.data_manifest_hash else None


def _path(runs_folder: Path, version: Manifest, name: str) -> Path:
    path = runs_folder / str(version.run_id) / name
    aside = _aside(path, version.data_manifest_hash)
    return aside if aside.is_file() else path


def _aside(path: Path, digest: str) -> Path:
    return path.with_stem(f"{path.stem}-{digest[:16]}")
