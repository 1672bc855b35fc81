"""Which folder a version has, and which versions have one.

Knows nothing of what lies in them. Invariant: a number that has no folder name has no path.
"""

from pathlib import Path
from typing import Final

from amends.errors import InvalidInput

_DIGITS: Final = range(6, 10)  # of a folder's name


def folder_of(root: Path, version: int) -> Path:
    """Whether it is there or not. InvalidInput: no version has this number."""
    last = 10 ** _DIGITS[-1] - 1
    if not 0 <= version <= last:
        raise InvalidInput(f"a version is a number from 0 to {last}")
    return root / f"{version:0{_DIGITS[0]}d}"


def versions_in(root: Path) -> tuple[int, ...]:
    """Oldest first."""
    names = (path.name for path in root.iterdir() if not path.is_symlink())
    return tuple(sorted(int(name) for name in names if name.isdecimal() and len(name) in _DIGITS))
