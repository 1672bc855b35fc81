"""The rounds of one ablation and seed, one after the other on one install.

Knows the install as a folder and a running stack, and the simulated people; no statistics.
Invariants: held-out customers ask a copy of the install that is thrown away, so no round ever sees
their questions, and a refused candidate answers nobody but them; nobody is measured by answers
that the server's clock cut; what a finished round left (install and measurements) is kept whole
before the next one starts, and a round that was cut short begins again from there.
"""

import asyncio
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from amends.base_model import serving_dtype
from amends.settings import Settings
from simulator import experts
from simulator.client import Api
from simulator.customers import Customer, Visit, heldout_crowd, training_crowd, visit_all
from simulator.cut_answers import cut_answers
from simulator.proof.ablations import Ablation
from simulator.questions import load_passages, load_personas, load_questions
from simulator.results import programs
from simulator.round import Following, RoundBroke, RoundFailed, activate, follow
from simulator.stack import Stack, running_stack

READY_S = 900.0
ROUND_LIMIT_S = 3600.0
SWAP_LIMIT_S = 120.0
MEASURE_TRIES = 3


@dataclass(frozen=True)
class Size:
    """Of one round."""

    customers: int = 140
    heldout: int = 176
    correct_share: float = 0.7
    max_corrections: int = 90
    concurrency: int = 16


@dataclass(frozen=True)
class Played:
    """What a round of training came to."""

    version: int  # that answers after it
    outcome: Literal["start", "published", "refused", "failed"]
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)  # what the run reported
    refused: int | None = None  # the candidate that did not pass the gate


@dataclass(frozen=True)
class Heard:
    """The held-out customers, in the crowd's order."""

    satisfaction: tuple[float, ...]
    questions: tuple[str, ...]  # ids of what they asked
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """One round, and what held-out customers say after it."""

    round: int  # 0: the base model, before any training
    played: Played
    heard: Heard
    of_refused: Heard | None  # what they would say of the candidate that was refused
    seconds: float
    commit: str  # of the checkout when the round began
    dtype: str  # of the policy's frozen weights: machines differ in what they choose


@dataclass(frozen=True)
class Cell:
    """`folder` holds its installs; `measurements` a small file of each finished round, which stays
    true wherever it is read."""

    folder: Path
    measurements: Path
    ablation: Ablation
    seed: int
    size: Size
    say: Callable[[str], None]

    @property
    def name(self) -> str:
        return f"{self.ablation.name}, seed {self.seed}"

    @property
    def commits(self) -> list[str]:
        """That its finished rounds were played at, in short."""
        named = (found.commit.partition("+") for found in self.finished)
        return list(dict.fromkeys(sha[:8] + plus + changes for sha, plus, changes in named))

    def forget(self) -> None:
        """Play it from its start: no round is finished any more."""
        for kept in (self.folder, self.measurements):
            shutil.rmtree(kept, ignore_errors=True)

    @property
    def finished(self) -> list[Measured]:
        """Rounds that were measured, from 0 on."""
        found: list[Measured] = []
        while (path := self._measured(len(found))).is_file():
            found.append(_read(path))
        return found

    @property
    def left(self) -> int:
        """Rounds still to be measured, round 0 included."""
        return self.ablation.rounds + 1 - len(self._done)

    @property
    def _done(self) -> list[Measured]:
        """What the next round goes on from: nothing where the last one's install is gone."""
        done = self.finished
        goes_on = len(done) > self.ablation.rounds or self._kept(len(done) - 1).is_dir()
        return done if goes_on else []

    def next_round(self) -> Measured:
        """Plays and measures the first round that is not finished; all of them begin again where
        the install that the last one left is gone."""
        done, code = self._done, programs()
        number, began = len(done), time.monotonic()
        if number == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        played = Played(0, "start")
        install = self.folder / "install"
        if number > 0:
            _copy(self._kept(number - 1), install)
        with self._stack(install) as stack:  # the first start makes the folder
            if number > 0:
                played = asyncio.run(self._play(stack, number, done[-1].played.version))
        _copy(install, self._kept(number))
        if played.outcome in ("start", "published"):
            heard = self._measure(number, played.version)
        else:  # the same weights answer
            heard = done[-1].heard
        refused = played.refused
        of_refused = None if refused is None else self._measure(number, refused, force=True)
        seconds, dtype = time.monotonic() - began, str(serving_dtype(Settings()))
        found = Measured(
            number, played, heard, of_refused, seconds, code, dtype.removeprefix("torch.")
        )
        if number == 0:
            shutil.rmtree(self.measurements, ignore_errors=True)
        _write(found, self._measured(number))
        for old in range(number):
            shutil.rmtree(self._kept(old), ignore_errors=True)
        shutil.rmtree(install)
        return found

    async def _play(self, stack: Stack, number: int, champion: int) -> Played:
        async with Api(stack.base_url, stack.staff_token) as api:
            await self._give_feedback(api, number)
            self.say(f"round {number}: training")
            run_id = await api.start_run(self.ablation.optimizer)
            heard = Following()

            def listen(following: Following) -> None:
                nonlocal heard
                heard = following

            try:
                outcome = await follow(api, run_id, listen, stack.check, ROUND_LIMIT_S)
            except RoundFailed as error:
                return Played(champion, "failed", (str(error),), heard.finite)
            if not outcome.passed or outcome.version is None:
                reasons, refused = outcome.reasons, outcome.version
                return Played(champion, "refused", reasons, heard.finite, refused)
            await activate(api, outcome.version, stack.check, SWAP_LIMIT_S)
            return Played(outcome.version, "published", outcome.reasons, heard.finite)

    async def _give_feedback(self, api: Api, number: int) -> None:
        seed = 1000 * self.seed + number
        gives, size = self.ablation.gives, self.size
        crowd = training_crowd(size.customers, seed, load_personas(), load_questions("train"))
        crowd = tuple(_giving(customer, gives) for customer in crowd)
        self.say(f"round {number}: {size.customers} customers")
        visits = await self._visits(api, crowd)
        if cut := cut_answers(visits):  # and judged as if the policy had written half sentences
            raise RoundBroke(f"{cut} answers were cut: the machine does too much else")
        turns = [turn for visit in visits for turn in visit.turns]
        if "correction" in gives:
            chosen = experts.turns_to_correct(turns, size.correct_share, size.max_corrections, seed)
            self.say(f"round {number}: {len(chosen)} corrections")
            await experts.correct(api, chosen, lambda _: None)

    def _measure(self, number: int, version: int, force: bool = False) -> Heard:
        """`force`: the gate has refused the version; in the copy it answers all the same."""
        what = f"version {version}, which was refused" if force else f"version {version}"
        self.say(f"round {number}: {self.size.heldout} held-out customers ask {what}")
        copy = self.folder / "yardstick"
        _copy(self._kept(number), copy)
        questions = load_questions("heldout")
        crowd = heldout_crowd(self.size.heldout, self.seed, load_personas(), questions)

        async def ask(stack: Stack) -> list[Visit]:
            async with Api(stack.base_url, stack.staff_token) as api:
                if force:
                    await activate(api, version, stack.check, SWAP_LIMIT_S, force)
                return await self._whole_visits(api, crowd)

        with self._stack(copy) as stack:
            visits = asyncio.run(ask(stack))
        shutil.rmtree(copy)
        turns = [visit.turns[0] for visit in visits]
        written_by = {turn.answer.policy_version for turn in turns}
        if written_by != {version}:
            raise RoundBroke(f"expected answers of version {version}, got {sorted(written_by)}")
        return Heard(
            tuple(turn.satisfaction for turn in turns),
            tuple(turn.question.id for turn in turns),
            tuple(turn.answer.text for turn in turns),
        )

    async def _whole_visits(self, api: Api, crowd: tuple[Customer, ...]) -> list[Visit]:
        """Asked again where answers were cut: customers who judge nothing leave no trace."""
        for _ in range(MEASURE_TRIES):
            visits = await self._visits(api, crowd)
            cut = cut_answers(visits)
            if not cut:
                return visits
            self.say(f"{cut} answers were cut: the machine does too much else; asked again")
        raise RoundBroke(f"expected whole answers, got {cut} cut ones in the last of the tries")

    async def _visits(self, api: Api, crowd: tuple[Customer, ...]) -> list[Visit]:
        passages, many = load_passages(), self.size.concurrency
        return await visit_all(api, crowd, passages, many, lambda _: None)

    def _stack(self, home: Path) -> AbstractContextManager[Stack]:
        environment = {**self.ablation.environment, "AMENDS_LEARN_SEED": str(self.seed)}
        return running_stack(home, environment, lambda seconds, line: None, READY_S, alone=True)

    def _kept(self, number: int) -> Path:
        return self.folder / f"after-{number}"

    def _measured(self, number: int) -> Path:
        return self.measurements / f"round-{number}.json"


def _giving(customer: Customer, gives: tuple[str, ...]) -> Customer:
    off = {"thumb": "thumb_rate", "rating": "rating_rate"}
    changes = {rate: 0.0 for kind, rate in off.items() if kind not in gives}
    return replace(customer, persona=customer.persona.model_copy(update=changes))


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all. A stopped install's sockets are left out."""
    fresh = target.with_name(target.name + ".new")
    for old in (fresh, target):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, fresh, symlinks=True, ignore=_sockets)
    fresh.rename(target)


def _sockets(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if stat.S_ISSOCK((Path(folder) / name).lstat().st_mode)}


def _read(path: Path) -> Measured:
    return TypeAdapter(Measured).validate_json(path.read_bytes())


def _write(found: Measured, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(TypeAdapter(Measured).dump_json(found))
    fresh.replace(path)
