"""The replicas together: which of them may answer, and what each must hold before it does.

Knows no policy beyond names and folders, no threads, no streams. Every replica is looked at each
second: one that has lost adapters (it was started again) gets them back, with a check, before it
is given a request; what nobody needs any more is taken from it. Invariants: a replica is chosen for
an adapter only after its log-probabilities with it were seen; a version is published on every
replica that answers, or on none. Not covered: that replicas serve the same base model.
"""

import asyncio
import logging
import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

from amends.engine.remote.member import Member, Patience, Standing
from amends.engine.remote.replica import Holdings, Replica, ReplicaLost
from amends.engine.remote.versions import Loaded, Versions
from amends.errors import AdapterRefused, EngineBusy

log = logging.getLogger(__name__)

RETRY_S: Final = 2.0


class Fleet:
    """All replicas of one install. Lives in one event loop."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        versions: Versions,
        golden_prompt: tuple[int, ...],
        context_tokens: int,
        patience: Patience,
    ) -> None:
        self.members = [
            Member(f"replica {number}", replica) for number, replica in enumerate(replicas, 1)
        ]
        self.patience = patience
        self._versions = versions
        self._golden_prompt = golden_prompt
        self._context_tokens = context_tokens
        self._incoming: Loaded | None = None

    @property
    def obstacle(self) -> str | None:
        """Why no replica can answer with the active version; None when one can."""
        active = self._versions.name_of(self._versions.active_version)
        if any(m.standing is not Standing.DOWN and active in m.adapters for m in self.members):
            return None
        return "no vLLM server can answer: " + "; ".join(
            f"{member.name}: {member.reason}" for member in self.members
        )

    def choose(self, adapter: str, tried: Collection[Member] = ()) -> Member | None:
        """The least loaded of the best replicas that hold the adapter."""
        for standing in (Standing.READY, Standing.SLOW):
            able = [
                member
                for member in self.members
                if member.standing is standing and adapter in member.adapters
            ]
            able = [member for member in able if member not in tried]
            if able:
                return min(able, key=lambda member: member.waiting + member.running)
        return None

    async def watch(self) -> None:
        """Looks after every replica until cancelled."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                member.look_now.set()
                group.create_task(self._watch(member))

    async def publish(self, loaded: Loaded) -> None:
        """Make a version able to answer on every replica that answers now, or change nothing. One
        at a time.

        Raises AdapterRefused, EngineBusy (a replica is too slow or was lost meanwhile: the next
        try goes without it).
        """
        self._incoming = loaded
        try:
            while lacking := self._lacking(loaded):
                await self._load_on(lacking, loaded)
            self._versions.add(loaded)
        except BaseException:
            await self._take_back(loaded)
            raise
        finally:
            self._incoming = None

    def lost(self, member: Member, error: ReplicaLost) -> None:
        """A response found the replica gone: look at it at once."""
        member.becomes(Standing.DOWN, str(error))
        member.look_at_s = 0.0
        member.look_now.set()

    def slow(self, member: Member, reason: str) -> None:
        """It gets requests only when no other can, and is left alone for a while."""
        member.becomes(Standing.SLOW, reason)
        self._leave_alone(member)

    async def close(self) -> None:
        """Take from the replicas what this process gave them, if they are quick."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(self._leave(member))

    def _lacking(self, loaded: Loaded) -> list[Member]:
        """Replicas that answer and do not hold it yet. Raises EngineBusy when none answers."""
        for standing in (Standing.READY, Standing.SLOW):
            serving = [member for member in self.members if member.standing is standing]
            if serving:
                return [member for member in serving if loaded.name not in member.adapters]
        raise EngineBusy(self.obstacle or "no vLLM server can answer", RETRY_S)

    async def _load_on(self, members: Sequence[Member], loaded: Loaded) -> None:
        outcomes = await asyncio.gather(
            *(self._load_in_time(member, loaded) for member in members), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if outcome is not None]
        for error in sorted(errors, key=lambda e: not isinstance(e, AdapterRefused)):
            raise error

    async def _load_in_time(self, member: Member, loaded: Loaded) -> None:
        limit_s = self.patience.load_s
        try:
            async with asyncio.timeout(limit_s), member.busy:
                await self._bring(member, loaded, frozenset())
        except TimeoutError:
            reason = f"version {loaded.version} was not loaded within {limit_s:g} s"
            self.slow(member, reason)
            raise EngineBusy(f"{member.name}: {reason}", RETRY_S) from None
        except ReplicaLost as error:
            self.lost(member, error)
            raise EngineBusy(f"{member.name}: {error}", RETRY_S) from error
        except AdapterRefused as error:
            raise AdapterRefused(f"version {loaded.version}: {member.name}: {error}") from error

    async def _bring(self, member: Member, loaded: Loaded, held: frozenset[str]) -> None:
        """Load and check one version. Raises AdapterRefused, ReplicaLost."""
        if loaded.name not in held:
            await member.replica.load(loaded.name, loaded.folder)
        found = await member.replica.first_logprobs(loaded.name, self._golden_prompt)
        if loaded.version == 0:
            member.base_logprobs = found
        else:
            effect = _distance(found, member.base_logprobs)
            if effect == 0.0 or not math.isfinite(effect):
                raise AdapterRefused(
                    "expected it to change the golden prompt's log-probabilities by a finite "
                    f"amount, got {effect} nats"
                )
        member.adapters.add(loaded.name)

    async def _take_back(self, loaded: Loaded) -> None:
        """Where it fails, the next look does it."""
        holding = [member for member in self.members if loaded.name in member.adapters]
        for member in holding:
            member.adapters.discard(loaded.name)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience.look_s):
                names = (member.replica.unload(loaded.name) for member in holding)
                await asyncio.gather(*names, return_exceptions=True)

    async def _watch(self, member: Member) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.patience.look_every_s):
                    await member.look_now.wait()
            member.look_now.clear()
            async with member.busy:
                if asyncio.get_running_loop().time() >= member.look_at_s:
                    await self._look(member)

    async def _look(self, member: Member) -> None:
        """What does it hold, what does it lack, is it well?"""
        self._versions.retire()
        limit_s = self.patience.look_s
        try:
            async with asyncio.timeout(limit_s):
                held = self._fitting(await member.replica.holdings())
            member.adapters &= held
            limit_s = self.patience.first_load_s
            async with asyncio.timeout(limit_s):
                await self._restore(member, held)
            if member.standing is Standing.SLOW:
                limit_s = self.patience.first_token_s
                async with asyncio.timeout(limit_s):
                    base = self._versions.name_of(0)
                    await member.replica.first_logprobs(base, self._golden_prompt)
            if not member.look_now.is_set():  # else a response found it gone meanwhile
                member.becomes(Standing.READY)
        except ReplicaLost as error:
            member.refused.clear()
            member.becomes(Standing.DOWN, str(error))
        except AdapterRefused as error:
            member.becomes(Standing.DOWN, str(error))
            self._leave_alone(member)
        except TimeoutError:
            was_down = member.standing is Standing.DOWN
            reason = f"no answer within {limit_s:g} s"
            member.becomes(Standing.DOWN if was_down else Standing.SLOW, reason)

    async def _restore(self, member: Member, held: frozenset[str]) -> None:
        """Load what it must hold and does not, unload what nobody needs."""
        while lacking := self._lacked_by(member):
            loaded = lacking[0]
            if member.standing is Standing.READY:
                member.becomes(Standing.DOWN, f"it has lost version {loaded.version}")
            try:
                await self._bring(member, loaded, held)
            except AdapterRefused as error:
                if loaded.version in (0, self._versions.active_version):
                    raise
                # The replica does the rest; who is bound to this version is answered elsewhere.
                log.error("%s: without version %d: %s", member.name, loaded.version, error)
                member.refused.add(loaded.name)
                if not any(loaded.name in other.adapters for other in self.members):
                    self._versions.drop(loaded.version)  # or a roll back would find it nowhere
        needed = self._versions.needed()
        for name in held - needed:
            incoming = self._incoming is not None and self._incoming.name == name
            if name.startswith(self._versions.owner) and not incoming:
                await member.replica.unload(name)

    def _lacked_by(self, member: Member) -> list[Loaded]:
        there = member.adapters | member.refused
        return [loaded for loaded in self._versions.wanted() if loaded.name not in there]

    def _fitting(self, found: Holdings) -> frozenset[str]:
        """The adapters of a server that can hold our sequences. Raises ReplicaLost."""
        if found.max_positions < self._context_tokens:
            raise ReplicaLost(
                f"it reads {found.max_positions} tokens, AMENDS_CONTEXT_TOKENS is "
                f"{self._context_tokens}: start it with --max-model-len {self._context_tokens}"
            )
        return found.adapters

    def _leave_alone(self, member: Member) -> None:
        member.look_at_s = asyncio.get_running_loop().time() + self.patience.aside_s

    async def _leave(self, member: Member) -> None:
        names = [name for name in member.adapters if name.startswith(self._versions.owner)]
        with suppress(ReplicaLost, TimeoutError):
            async with asyncio.timeout(RETRY_S):
                for name in names:
                    await member.replica.unload(name)
        await member.replica.aclose()


def _distance(found: dict[str, float], base: dict[str, float]) -> float:
    """The largest change of the log-probability of a token that is likely under `base`; one that is
    not among the `found` is no likelier than the last of them."""
    least = min(found.values(), default=math.nan)
    return max((abs(found.get(token, least) - base[token]) for token in base), default=0.0)
