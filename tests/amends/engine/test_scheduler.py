"""The engine's bookkeeping under any sequence of events, with a cache that remembers what was put
into it instead of a model."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from amends.engine.engine import Engine
from amends.engine.histogram import Histogram
from amends.engine.kv_cache import Move
from amends.engine.prefix_cache import BLOCK_TOKENS, BlockCopy
from amends.engine.scheduler import Limits
from amends.engine.sequence import Chunk, Piece, Request, Sampling, Sequence, State
from amends.errors import EngineBusy

LIMITS = Limits(max_running=4, max_waiting=5, prefill_tokens=24, max_positions=80)
BASES = [tuple(range(10 * n, 10 * n + 10)) * 6 for n in (1, 2)]  # what prompts begin with
END = 0

Cell = tuple[int, int] | None  # written by which weights, for which token


class RememberingRunner:
    """ModelRunner's interface; a position holds the weights and the token it was computed from."""

    def __init__(self, backbone: object, shape: object, rows: int, slots: int, size: int) -> None:
        self.blocks = 6
        self.prefill_tokens = LIMITS.prefill_tokens
        self.rows: list[list[Cell]] = [[None] * LIMITS.max_positions for _ in range(rows)]
        self.block_cells: list[list[Cell]] = [[None] * BLOCK_TOKENS for _ in range(self.blocks)]
        self.weights = [0] * slots
        self.writes = 0
        self.read = 0

    def pack(self, lora: object) -> object:
        return lora

    def write_slot(self, slot: int, lora: object) -> None:
        self.writes += 1
        self.weights[slot] = self.writes

    def prefill(self, pieces: list[Piece]) -> tuple[list[int], list[float]]:
        assert sum(piece.end - piece.start for piece in pieces) <= self.prefill_tokens
        return self._forward(pieces)

    def decode(
        self, pieces: list[Piece], probe: list[Piece]
    ) -> tuple[list[int], list[float], float]:
        assert [piece.sequence.row for piece in pieces] == list(range(len(pieces)))
        assert {piece.end - piece.start for piece in pieces} <= {1}
        assert [piece.sequence.slot for piece in probe][:1] in ([], [0])
        return *self._forward(pieces), float(
            len(probe) and self.weights[probe[1].sequence.slot or 0]
        )

    def _forward(self, pieces: list[Piece]) -> tuple[list[int], list[float]]:
        for piece in pieces:
            row, cells = self.rows[cast(int, piece.sequence.row)], self.expected(piece.sequence)
            assert row[: piece.start] == cells[: piece.start], "reads what is not its own"
            row[piece.start : piece.end] = cells[piece.start : piece.end]
            self.read += piece.end - piece.start
        drawn = [int(piece.sequence.uniform() * 8) for piece in pieces if piece.draws]
        return drawn, [0.0] * len(drawn)

    def expected(self, sequence: Sequence) -> list[Cell]:
        weights = self.weights[cast(int, sequence.slot)]
        return [(weights, t) for t in (*sequence.request.prompt_ids, *sequence.token_ids)]

    def move(self, move: Move) -> None:
        self.rows[move.target][: move.length] = self.rows[move.source][: move.length]

    def save(self, copy: BlockCopy) -> None:
        self.block_cells[copy.block] = self.rows[copy.row][copy.start : copy.start + BLOCK_TOKENS]

    def restore(self, copy: BlockCopy) -> None:
        self.rows[copy.row][copy.start : copy.start + BLOCK_TOKENS] = self.block_cells[copy.block]


def make_engine(
    limits: Limits = LIMITS, ends: tuple[int, ...] = ()
) -> tuple[Engine, RememberingRunner]:
    with patch("amends.engine.engine.ModelRunner", RememberingRunner):
        engine = Engine(cast(Any, None), cast(Any, None), frozenset(ends), limits)
    runner = cast(RememberingRunner, engine._runner)
    runner.prefill_tokens = limits.prefill_tokens
    return engine, runner


class Visitors(RuleBasedStateMachine):
    """Anything may happen between two steps."""

    @initialize()
    def start(self) -> None:
        self.engine, self.runner = make_engine(ends=(END,))
        self.scheduler = self.engine._scheduler
        self.published = 0
        self.turned_away = 0
        self.chunks: dict[Sequence, list[Chunk]] = {}

    @property
    def live(self) -> list[Sequence]:
        return [s for s in self.chunks if s.state is not State.FINISHED]

    @rule(
        base=st.sampled_from(BASES),
        cut=st.integers(1, 60),
        end=st.lists(st.integers(1, 3), max_size=3),
        tokens=st.integers(1, 8),
        named=st.booleans(),
    )
    def submit(
        self, base: tuple[int, ...], cut: int, end: list[int], tokens: int, named: bool
    ) -> None:
        version = self.engine.slots.versions()[-1] if named else None
        sampling = Sampling(tokens, seed=len(self.chunks))
        chunks: list[Chunk] = []
        full = self.engine.waiting == LIMITS.max_waiting
        try:
            request = Request((*base[:cut], *end), sampling, version)
            self.chunks[self.engine.submit(request, chunks.append)] = chunks
            assert not full
        except EngineBusy:
            assert full
            self.turned_away += 1

    @rule()
    def step(self) -> None:
        running = self.scheduler.rows.running
        gone = [s for s in self.live if s.cancelled or s.request.deadline_s is not None]
        writing = {s: len(s.token_ids) for s in running if s.unread == 1 and s not in gone}
        readers = [s for s in running if s.unread > 1 and s not in gone]
        oldest = min(readers, key=lambda s: s.sequence_id, default=None)
        before = 0 if oldest is None else oldest.computed
        self.engine.step()
        assert all(s.state is State.FINISHED for s in gone)
        assert all(len(s.token_ids) > count for s, count in writing.items()), "a stream stood still"
        assert oldest is None or oldest.computed > before, "the first of those that read starves"

    @precondition(lambda self: self.live)
    @rule(data=st.data(), late=st.booleans())
    def give_up(self, data: st.DataObject, late: bool) -> None:
        sequence = data.draw(st.sampled_from(self.live))
        if late:
            sequence.request = replace(sequence.request, deadline_s=-math.inf)
        else:
            sequence.cancelled = True

    @rule(activate=st.booleans())
    def publish(self, activate: bool) -> None:
        try:
            self.engine.write(self.published + 1, cast(Any, None))
        except EngineBusy:
            return
        self.published += 1
        if activate:
            self.engine.activate(self.published)

    @rule()
    def load(self) -> None:
        told: list[object] = []
        before = self.engine.slots.versions()
        try:
            self.engine.load(self.published + 1, cast(Any, None), BASES[0][:5], told.append)
        except EngineBusy:
            return
        self.published += 1
        assert told == [] and self.engine.slots.versions() == before
        self.engine.step()
        assert [error is None for error in told] == [True]
        assert self.engine.slots.versions() == (*before, self.published)

    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        slots = self.engine.slots
        may_go = [v for v in slots.versions() if v not in (0, slots.active_version)]
        if may_go:
            version = data.draw(st.sampled_from(may_go))
            used = any(s.version == version for s in self.live)
            free = slots.free
            self.engine.unload(version)
            assert version not in slots.versions() and slots.free == free + (not used)
            if data.draw(st.booleans()):  # wanted again
                assert slots.revive(version) == used

    @rule(data=st.data())
    def write_other_weights_under_an_old_number(self, data: st.DataObject) -> None:
        slots = self.engine.slots
        used = {s.version for s in self.live} | {0, slots.active_version}
        unused = [v for v in slots.versions() if v not in used]
        if unused:
            version = data.draw(st.sampled_from(unused))
            slots.drop(version)
            self.engine.write(version, cast(Any, None))

    @invariant()
    def rows_are_dense_and_references_are_those_of_the_living(self) -> None:
        running = self.scheduler.rows.running
        assert [s.row for s in running] == list(range(len(running)))
        assert len(running) <= LIMITS.max_running and self.engine.waiting <= LIMITS.max_waiting
        assert {*running, *self.scheduler.waiting} == set(self.live)
        references = self.engine.slots._references
        for slot in range(len(self.runner.weights)):
            assert references.get(slot, 0) == sum(s.slot == slot for s in self.live)

    @invariant()
    def kept_prefixes_stay_in_bounds_and_belong_to_their_version(self) -> None:
        prefixes, slot_of = self.scheduler.prefixes, self.engine.slots._slot_of
        assert len(prefixes) + len(prefixes._free) == prefixes.limit
        assert sorted([*prefixes._blocks.values(), *prefixes._free]) == list(range(prefixes.limit))
        for (version, tokens), block in prefixes._blocks.items():
            weights = self.runner.weights[slot_of[version]]
            want = [(weights, token) for token in tokens[-BLOCK_TOKENS:]]
            assert self.runner.block_cells[block] == want

    @invariant()
    def whoever_is_finished_was_told_once(self) -> None:
        for sequence, chunks in self.chunks.items():
            told = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
            assert told == ([sequence.finish_reason] if sequence.finish_reason else [])
            assert [t for chunk in chunks for t in chunk.token_ids] == sequence.token_ids
            assert {chunk.version for chunk in chunks} <= {sequence.version, 0, *self.versions}

    @property
    def versions(self) -> range:
        return range(self.published + 1)

    def teardown(self) -> None:
        most = sum(s.length + s.request.sampling.max_tokens for s in self.live) + 1
        for _ in range(most):
            if not self.engine.step():
                break
        assert not self.live and not self.engine.running and not self.engine.waiting
        assert not any(self.engine.slots._references.values())
        stats = self.engine.stats
        assert stats.prefix_hit_tokens <= stats.prefix_lookup_tokens
        assert sum(stats.written_tokens.values()) == sum(len(s.token_ids) for s in self.chunks)
        self.check_that_every_request_is_counted_once()

    def check_that_every_request_is_counted_once(self) -> None:
        stats = self.engine.stats
        written = [s for s in self.chunks if s.token_ids]
        by_themselves = Counter(
            (s.version, s.finish_reason) for s in self.chunks if s.finish_reason != "cancelled"
        )
        counted = {key: n for key, n in stats.finished.items() if key[1] != "cancelled"}
        assert counted == by_themselves and count(stats.request_s) == by_themselves.total()
        assert stats.unserved.get("queue_full", 0) == self.turned_away
        assert stats.unserved.get("deadline", 0) == sum(s.expired for s in self.chunks)
        every_end = sum(stats.finished.values()) + sum(stats.unserved.values())
        assert every_end == len(self.chunks) + self.turned_away
        assert count(stats.first_token_s) == len(written) <= count(stats.queue_s)
        assert count(stats.inter_token_s) == sum(len(s.token_ids) - 1 for s in written)


def count(histograms: Mapping[int, Histogram]) -> int:
    return sum(histogram.count for histogram in histograms.values())


TestVisitors = Visitors.TestCase
TestVisitors.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_of_four_equal_prompts_one_is_read() -> None:
    engine, runner = make_engine(replace(LIMITS, prefill_tokens=100))
    prompts = [BASES[0], BASES[1]]
    requests = [Request(prompts[i // 2], Sampling(8, seed=i)) for i in range(4)]
    engine.generate(requests)
    assert runner.read == (60 + 1) * 2 + 4 * 7  # prompts, and what was written but the last
    assert engine.stats.prefix_hit_tokens == 2 * 59


def test_a_long_prompt_delays_streams_by_a_piece_of_itself() -> None:
    engine, _ = make_engine()
    stream = engine.submit(Request((5,), Sampling(40, seed=4)), lambda chunk: None)
    engine.step()
    long = engine.submit(Request(BASES[0], Sampling(4)), lambda chunk: None)
    for _ in range(3):  # 24 + 24 + 12 tokens
        assert not long.token_ids
        count = len(stream.token_ids)
        engine.step()
        assert len(stream.token_ids) == count + 1
    assert long.token_ids


def test_the_next_turn_reads_only_what_is_new() -> None:
    engine, runner = make_engine()
    (first,) = engine.generate([Request(BASES[0], Sampling(8, seed=4))])
    before = runner.read
    spoken = (*BASES[0], *first.token_ids)
    engine.generate([Request((*spoken, 7, 7), Sampling(1))])
    kept = (len(spoken) - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert runner.read - before == len(spoken) + 2 - kept
    assert engine.stats.prefix_hit_tokens == kept


def test_beside_a_running_stream_a_prompt_is_read_in_smaller_pieces() -> None:
    engine, runner = make_engine(replace(LIMITS, prefill_tokens=24, beside_tokens=6))
    first = engine.submit(Request(tuple(range(3, 23)), Sampling(30)), lambda chunk: None)
    engine.step()
    assert first.token_ids  # nobody waited: read at once
    runner.prefill_tokens = 6  # the most that the runner takes from here on
    second = engine.submit(Request(tuple(range(40, 60)), Sampling(30)), lambda chunk: None)
    for _ in range(3):
        before = second.computed
        engine.step()
        assert 0 < second.computed - before <= 7  # a piece, and a token along with the first's
    assert len(first.token_ids) >= 3
