"""Beginnings of prompts and conversations that ended, kept for the next visitor: which block of
memory holds which tokens.

Knows no torch and no rows; keys and values lie with the model runner. Invariants: a block is found
only by its version and by every token from the first to its own last one; it holds nothing but
what that version computed; when memory ends, the longest unused goes first, and never a beginning
before what continues it.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

BLOCK_TOKENS = 16

Key = tuple[int, tuple[int, ...]]  # version, all tokens up to the block's end


@dataclass(frozen=True)
class BlockCopy:
    """Between a block and the BLOCK_TOKENS positions of a row that begin at `start`."""

    block: int
    row: int
    start: int


class PrefixCache:
    """At most `limit` blocks, numbered from 0."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = list(range(limit))
        self._blocks: OrderedDict[Key, int] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._blocks)

    def find(self, version: int, tokens: tuple[int, ...]) -> list[int]:
        """The blocks that hold the beginning of these tokens, in order."""
        found: list[Key] = []
        for key in self._keys(version, tokens):
            if key not in self._blocks:
                break
            found.append(key)
        self._touch(found)
        return [self._blocks[key] for key in found]

    def add(self, version: int, tokens: tuple[int, ...]) -> list[tuple[int, int]]:
        """Keep these tokens: (block, first position) of each block that must be written now."""
        keys = self._keys(version, tokens)
        self._touch([key for key in keys if key in self._blocks])
        written = []
        for index, key in enumerate(keys):
            if key not in self._blocks:
                self._blocks[key] = self._take()
                written.append((self._blocks[key], index * BLOCK_TOKENS))
        self._touch(keys)
        return written

    def keep_only(self, versions: Collection[int]) -> None:
        """Forget what other versions computed."""
        for key in [key for key in self._blocks if key[0] not in versions]:
            self._free.append(self._blocks.pop(key))

    def _keys(self, version: int, tokens: tuple[int, ...]) -> list[Key]:
        ends = range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS)
        return [(version, tokens[:end]) for end in ends[: self.limit]]

    def _take(self) -> int:
        return self._free.pop() if self._free else self._blocks.popitem(last=False)[1]

    def _touch(self, keys: list[Key]) -> None:
        """The first key becomes the most recent: a beginning outlives what continues it."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)
