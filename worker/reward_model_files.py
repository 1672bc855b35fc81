"""The reward models of versions on disk: reward_models/{version:06d}, each with the adapter whose
features it reads, if any.

Knows folders, no training and no aliases. Invariant: a version that was trained against one has it:
it lies in the run's folder, whole and on disk, before the version is published, and whoever ends
the run, also after a crash, moves it to its place.
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from amends.durable_file import locked, sync_file, sync_folder
from amends.errors import AmendsError
from amends.lora import LoraShape, load_lora, save_lora
from worker.reward.reward_head_store import OWN_FEATURES, load_reward_head, save_reward_head
from worker.reward.training import PreviousReward, ScoringModel

log = logging.getLogger(__name__)

_STAGED = "reward-model"  # in the run's folder


def stage_reward_model(model: ScoringModel | None, run_folder: Path, base_name: str) -> None:
    """Write it where `keep_reward_model` finds it; None, after supervised steps alone: an empty
    folder."""
    folder = run_folder / _STAGED
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that published nothing
    folder.mkdir(parents=True)
    if model is not None:
        _write(model, folder, base_name)
    sync_folder(folder)
    sync_folder(run_folder)


def keep_reward_model(run_folder: Path, root: Path, version: int) -> None:
    """Give what was staged the number of its version; nothing staged, or done already: nothing.
    What has the number is another install's, whose adapters are gone."""
    folder, kept = run_folder / _STAGED, root / f"{version:06d}"
    run_folder.mkdir(parents=True, exist_ok=True)
    with locked(run_folder / "reward-model.lock"):  # a resumed run, and who lost it, end it both
        if not folder.is_dir():
            return
        shutil.rmtree(kept, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
            return
        root.mkdir(parents=True, exist_ok=True)
        folder.rename(kept)
        sync_folder(root)


def _write(model: ScoringModel, folder: Path, base_name: str) -> None:
    if model.features.lora is not None:
        features = folder / OWN_FEATURES
        save_lora(model.features.lora, features, base_name)
        for path in features.iterdir():
            sync_file(path)
        sync_folder(features)
    save_reward_head(model.head, folder)


def newest_reward_model(
    root: Path, versions: Iterable[int], shape: LoraShape
) -> PreviousReward | None:
    """Of the newest of these versions that has one which this program can still read."""
    for version in sorted(versions, reverse=True):
        folder = root / f"{version:06d}"
        if not folder.is_dir():
            continue
        try:
            head = load_reward_head(folder)
            lora = load_lora(folder / OWN_FEATURES, shape) if head.own_features else None
            return PreviousReward(head, lora)
        except (AmendsError, OSError) as error:
            log.warning("%s", error)
    return None
