"""What took long, kept under a hash of everything that it depends on.

Invariant: a file is whole, and an equal hash means an equal question; there is nothing to expire.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from judgements.measures import Array


def digest(*contents: str | bytes) -> str:
    """SHA-256 of texts or files' bytes, in order."""
    whole = hashlib.sha256()
    for content in contents:
        data = content.encode() if isinstance(content, str) else content
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()


def source_of(*modules: ModuleType) -> str:
    """A digest of what computes: another program asks another question."""
    return digest(*(Path(str(module.__file__)).read_bytes() for module in modules))


@dataclass(frozen=True)
class Kept:
    root: Path

    def folder(self, **depends_on: Any) -> Path:
        """One of its own for this question, made."""
        text = json.dumps(depends_on, sort_keys=True)
        folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:20]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def array(self, make: Callable[[Path], Array], **depends_on: Any) -> Array:
        """From disk, or made now; `make` may leave what helps it to resume in the folder."""
        folder = self.folder(**depends_on)
        file = folder / "array.npy"
        if not file.is_file():
            made = make(folder)
            aside = folder / "writing.npy"
            np.save(aside, made)
            aside.replace(file)
        kept: Array = np.load(file)
        return kept
