"""Rounds of the proof: kept whole, begun again, measured on a copy; on the tiny model."""

import asyncio
import shutil
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from simulator.client import Answer, Api
from simulator.customers import AskedTurn, Customer, Visit, training_crowd
from simulator.proof.ablations import Ablation
from simulator.proof.cell import Cell, Heard, Measured, Played, Size, _copy, _giving, _read, _write
from simulator.questions import load_personas, load_questions
from simulator.round import Following, RoundBroke
from tests.tiny_model import make_tiny_model


def measured(number: int) -> Measured:
    heard = Heard((1.0, 5.0), ("a", "b"), ("Yes.", "No."))
    return Measured(number, Played(number, "published"), heard, None, 2.5, "abc", "float32")


def test_what_is_finished_is_read_back_and_a_gap_ends_it(tmp_path: Path) -> None:
    cell = Cell(tmp_path, tmp_path, Ablation("none", rounds=4), 1, Size(), print)
    assert cell.finished == [] and cell.left == 5
    for number in (0, 1, 3):
        _write(measured(number), tmp_path / f"round-{number}.json")
    (tmp_path / "after-1").mkdir()
    assert cell.finished == [measured(0), measured(1)]
    assert cell.left == 3


def test_without_the_last_install_the_rounds_begin_again_unless_all_were_played(
    tmp_path: Path,
) -> None:
    """A fresh checkout holds what was measured, and no install."""
    cell = Cell(tmp_path / "kept", tmp_path, Ablation("none", rounds=2), 1, Size(), print)
    for number in (0, 1):
        _write(measured(number), tmp_path / f"round-{number}.json")
    assert (len(cell.finished), cell.left) == (2, 3)
    _write(measured(2), tmp_path / "round-2.json")
    assert (len(cell.finished), cell.left) == (3, 0)


def test_what_is_forgotten_is_played_from_its_start(tmp_path: Path) -> None:
    cell = Cell(tmp_path / "kept", tmp_path / "rows", Ablation("none", rounds=1), 1, Size(), print)
    for number, code in enumerate(("abcdef0123", "abcdef0124+changes")):
        _write(replace(measured(number), commit=code), tmp_path / "rows" / f"round-{number}.json")
    assert (cell.left, cell.commits) == (0, ["abcdef01", "abcdef01+changes"])
    cell.forget()
    assert (cell.left, cell.commits) == (2, [])


def test_a_figure_that_is_no_number_is_left_out_and_the_rest_is_read_back(tmp_path: Path) -> None:
    heard = Following()
    heard.hear({"kind": "metrics", "values": {"kl": float("nan"), "score": 1.5, "far": 1e400}})
    found = replace(measured(0), played=Played(1, "published", (), heard.finite))
    _write(found, tmp_path / "round-0.json")
    assert _read(tmp_path / "round-0.json").played.figures == {"score": 1.5}


def test_a_copy_is_whole_and_leaves_sockets_out(tmp_path: Path) -> None:
    source, target = tmp_path / "install", tmp_path / "copy"
    (source / "store").mkdir(parents=True)
    (source / "store" / "data").write_text("kept")
    (tmp_path / "copy.new").mkdir()  # left by a run that was stopped
    (target / "old").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "store" / "s"))
        _copy(source, target)
    assert sorted(path.name for path in target.rglob("*")) == ["data", "store"]
    assert not (tmp_path / "copy.new").exists()


def test_customers_give_what_the_ablation_lets_them() -> None:
    [customer] = training_crowd(1, 1, load_personas(), load_questions("train"))
    silent = _giving(customer, ("thumb",))
    assert silent.persona.rating_rate == 0 and silent.persona.thumb_rate > 0
    assert silent.questions == customer.questions
    assert _giving(customer, ("thumb", "rating", "correction")) == customer


def visits_of(*seconds: float) -> list[Visit]:
    """One customer's answers, each as slow as that."""
    [customer] = training_crowd(1, 1, load_personas(), load_questions("train"))
    answers = [Answer("t", "Yes.", 1, "policy", "stop", (), 0.1, took) for took in seconds]
    turns = tuple(AskedTurn(customer.questions[0], "?", answer, 5.0) for answer in answers)
    return [Visit(customer, turns, (), None)]


@dataclass(frozen=True)
class Busy(Cell):
    """A cell on a machine whose answers take `slow` seconds, try by try."""

    slow: list[float] = field(default_factory=list)

    async def _visits(self, api: Api, crowd: tuple[Customer, ...]) -> list[Visit]:
        return visits_of(1.0, self.slow.pop(0))


def busy(slow: list[float]) -> Busy:
    return Busy(Path(), Path(), Ablation("none"), 1, Size(), lambda text: None, slow)


async def ask(cell: Cell) -> list[Visit]:
    async with Api("http://127.0.0.1:1", "token") as api:
        return await cell._whole_visits(api, ())


def test_held_out_customers_ask_again_where_the_servers_clock_cut_answers() -> None:
    cell = busy([60.2, 3.0, 4.0])
    assert asyncio.run(ask(cell)) == visits_of(1.0, 3.0)
    assert cell.slow == [4.0]
    with pytest.raises(RoundBroke, match="whole answers, got 1"):
        asyncio.run(ask(busy([61.0, 61.0, 61.0])))


def test_nothing_is_learned_from_answers_that_the_servers_clock_cut() -> None:
    async def give() -> None:
        async with Api("http://127.0.0.1:1", "token") as api:
            await busy([75.0])._give_feedback(api, 1)

    with pytest.raises(RoundBroke, match="1 answers were cut"):
        asyncio.run(give())


@pytest.mark.slow
def test_a_round_without_enough_feedback_is_told_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three starts of a real install: round 0, its yardstick, round 1."""
    monkeypatch.setenv("AMENDS_BASE_MODEL", str(make_tiny_model(tmp_path / "model")))
    monkeypatch.setenv("AMENDS_DTYPE", "float32")
    monkeypatch.setenv("AMENDS_THREADS", "1")
    size = Size(customers=3, heldout=4, max_corrections=1, concurrency=2)
    folder = tmp_path / "cell"
    told = tmp_path / "measured"
    cell = Cell(folder, told, Ablation("none", rounds=1), 1, size, lambda text: None)
    for number in (0, 3):  # as a fresh checkout has them: with no install to go on from
        _write(measured(number), told / f"round-{number}.json")
    (folder / "install").mkdir(parents=True)  # of a round that was stopped
    (folder / "install" / "server.secret").write_text("of another install")

    start = cell.next_round()
    assert (start.round, start.played.outcome, len(start.heard.answers)) == (0, "start", 4)
    shutil.copytree(folder / "after-0", folder / "install")  # as a run that was killed leaves it
    (folder / "install" / "torn").write_text("half a round")
    found = cell.next_round()

    assert found.played.outcome == "failed"
    assert "corrections" in found.played.reasons[0]
    assert found.heard == start.heard and found.of_refused is None
    assert len(start.heard.satisfaction) == 4 and start.dtype == "float32"
    assert cell.left == 0 and cell.finished == [start, found]
    assert [p.name for p in folder.iterdir()] == ["after-1"]
    assert sorted(p.name for p in told.iterdir()) == ["round-0.json", "round-1.json"]
    assert not (folder / "after-1" / "torn").exists()
