"""Which policy version lies in which LoRA slot, and who still needs it.

Knows no torch and no files. Invariants: slot 0 is the base model (version 0); a slot is given to
another version only when no sequence refers to it and it is not the active one.
"""

from dataclasses import dataclass, field

from amends.errors import EngineBusy, NotFound


@dataclass
class Slots:
    """`count` slots, slot 0 included."""

    count: int
    active_version: int = 0
    _slot_of: dict[int, int] = field(default_factory=lambda: {0: 0})
    _references: dict[int, int] = field(default_factory=dict)

    def versions(self) -> tuple[int, ...]:
        """Versions that can answer now, oldest slot assignment first."""
        return tuple(self._slot_of)

    def acquire(self, version: int | None) -> tuple[int, int]:
        """Bind a sequence: (version, slot). None means the active version. Raises NotFound."""
        wanted = self.active_version if version is None else version
        if wanted not in self._slot_of:
            resident = ", ".join(str(v) for v in self._slot_of)
            raise NotFound(f"version {wanted} is not loaded; loaded are {resident}")
        slot = self._slot_of[wanted]
        self._references[slot] = self._references.get(slot, 0) + 1
        return wanted, slot

    def release(self, slot: int) -> None:
        """A sequence that was bound to the slot is finished."""
        self._references[slot] -= 1

    def place(self, version: int) -> int:
        """A slot to write `version` into; EngineBusy while every other slot is in use."""
        if version in self._slot_of:
            raise NotFound(f"version {version} is loaded already; versions are never rewritten")
        taken = set(self._slot_of.values())
        for slot in range(1, self.count):
            if slot not in taken:
                self._slot_of[version] = slot
                return slot
        for old, slot in list(self._slot_of.items()):
            if slot != 0 and old != self.active_version and not self._references.get(slot):
                del self._slot_of[old]
                self._slot_of[version] = slot
                return slot
        raise EngineBusy(f"no free slot for version {version}: all are in use", retry_after_s=0.1)

    def drop(self, version: int) -> None:
        """Forget a version that was placed but must not answer, and that nobody uses."""
        if version == self.active_version:
            raise NotFound(f"version {version} is active and cannot be dropped")
        slot = self._slot_of.get(version)
        if slot is not None and self._references.get(slot):
            raise EngineBusy(f"version {version} is still answering", retry_after_s=0.1)
        self._slot_of.pop(version, None)

    def activate(self, version: int) -> None:
        """New sequences without a version of their own get this one."""
        if version not in self._slot_of:
            raise NotFound(f"version {version} is not loaded")
        self.active_version = version
