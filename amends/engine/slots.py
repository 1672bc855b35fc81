"""Which policy version lies in which LoRA slot, and who still needs it.

Knows no torch and no files. A version is placed (its weights are being written and checked), then
resident (it can answer), and at the end retired (it finishes what it began, then its slot is free).

Invariants: slot 0 is the base model (version 0); only a resident version is given to a sequence; a
slot is given to another version only when no sequence refers to it; the active version is
resident. Nothing is retired to make room: whoever loads decides what goes.
"""

from dataclasses import dataclass, field

from amends.errors import EngineBusy, NotFound


@dataclass
class Slots:
    """`count` slots, slot 0 included."""

    count: int
    active_version: int = 0
    _slot_of: dict[int, int] = field(default_factory=lambda: {0: 0})  # resident
    _placed: dict[int, int] = field(default_factory=dict)
    _retired: dict[int, int] = field(default_factory=dict)
    _references: dict[int, int] = field(default_factory=dict)

    def versions(self) -> tuple[int, ...]:
        """Versions that can answer now, oldest first."""
        return tuple(self._slot_of)

    @property
    def free(self) -> int:
        """Slots that hold nothing which anybody needs."""
        return self.count - len(self._slot_of) - len(self._placed) - len(self._retired)

    def room_for(self, version: int) -> bool:
        """Whether the version could be placed, or revived, now. Any thread may ask."""
        return self.free > 0 or version in self._retired

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
        if not self._references[slot]:
            self._retired = {v: s for v, s in self._retired.items() if s != slot}

    def place(self, version: int) -> int:
        """A slot to write `version` into; EngineBusy while every slot is in use."""
        if version in self._slot_of or version in self._retired:
            raise NotFound(f"version {version} is loaded already; versions are never rewritten")
        if version in self._placed:
            raise EngineBusy(f"version {version} is being loaded", 0.1)
        taken = {*self._slot_of.values(), *self._placed.values(), *self._retired.values()}
        slot = next((slot for slot in range(1, self.count) if slot not in taken), None)
        if slot is None:
            raise EngineBusy(f"no free slot for version {version}: all are in use", 0.1)
        self._placed[version] = slot
        return slot

    def admit(self, version: int) -> None:
        """A placed version can answer from now on."""
        self._slot_of[version] = self._placed.pop(version)

    def revive(self, version: int) -> bool:
        """A retired version whose slot is still its own can answer again; False: it has none."""
        if version in self._retired:
            self._slot_of[version] = self._retired.pop(version)
        return version in self._slot_of

    def drop(self, version: int) -> None:
        """Retire a version, or forget one that was placed and must not answer; nothing happens
        where neither is known. NotFound for the active version and the base model."""
        if version in (0, self.active_version):
            raise NotFound(f"version {version} is active or the base model, which always stay")
        self._placed.pop(version, None)
        slot = self._slot_of.pop(version, None)
        if slot is not None and self._references.get(slot):
            self._retired[version] = slot

    def activate(self, version: int) -> None:
        """New sequences without a version of their own get this one."""
        if version not in self._slot_of:
            raise NotFound(f"version {version} is not loaded")
        self.active_version = version
