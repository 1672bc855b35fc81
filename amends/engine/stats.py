"""What the engine counts, and the snapshot that metrics are made of.

Knows no exporter. Invariants: counts only grow; the engine's thread alone writes them. A snapshot
taken by another thread needs no lock: each number is right, though two may be a step apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineStats:
    """State now (`running`, `waiting`, `slots_in_use`) and counts since the start."""

    running: int
    waiting: int
    slots_in_use: int  # versions that can answer, the base model included
    prompt_tokens: Mapping[int, int]  # by version, of admitted requests
    written_tokens: Mapping[int, int]  # by version
    prefix_lookup_tokens: int  # prompt tokens that might have been computed before
    prefix_hit_tokens: int  # those of them that were copied
    swaps: int


@dataclass
class Counters:
    prompt_tokens: dict[int, int] = field(default_factory=dict)
    written_tokens: dict[int, int] = field(default_factory=dict)
    prefix_lookup_tokens: int = 0
    prefix_hit_tokens: int = 0
    swaps: int = 0

    def admitted(self, version: int, prompt_tokens: int) -> None:
        self.prompt_tokens[version] = self.prompt_tokens.get(version, 0) + prompt_tokens
        self.prefix_lookup_tokens += prompt_tokens

    def wrote(self, version: int) -> None:
        self.written_tokens[version] = self.written_tokens.get(version, 0) + 1
