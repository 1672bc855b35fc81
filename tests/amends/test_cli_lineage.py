"""`amends lineage`, `amends exclusions`, `amends train --without-rater` on real stores.

The tests play the worker and leave on disk what its rounds leave.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.base_model import base_hash
from amends.conversation_store import ConversationStore
from amends.correction_outcomes import CorrectionOutcome, CorrectionOutcomes
from amends.data_manifest import DataManifest
from amends.feedback import Correction, Rater, Thumb
from amends.feedback_store import FeedbackStore
from amends.run_files import (
    DATA_MANIFEST,
    read_outcomes,
    read_versions,
    set_aside,
    write_outcomes,
)
from amends.runs import Runs
from amends.store_client import StoreClient
from amends.verdict import Verdict
from tests.amends.command_line import Amends
from tests.amends.lineage_values import data_manifest

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
ANN, BOB, THUMB = "correction:t1:ann", "correction:t2:bob", "thumb:t1:v1"
PASSED = Verdict(passed=True, reasons=("passed: KL: 2.5 nats",))

Round = Callable[..., int]


@pytest.fixture
def adapters(amends_home: Path) -> AdapterStore:
    return AdapterStore(amends_home / "adapters", base_hash(amends_home.parent / "model"))


@pytest.fixture
def train(amends_home: Path, adapters: AdapterStore, redis: StoreClient) -> Round:
    """A round that ended: its run, its files, its version."""
    runs = Runs(redis)

    def perform(
        parent: int, data: DataManifest, *outcomes: CorrectionOutcome, **metrics: float
    ) -> int:
        run = runs.live() or runs.create(requested_by="schedule", reason="12 new pieces")
        run = runs.claim(run.run_id)
        FeedbackStore(redis).claim(run.run_id)
        folder = amends_home / "runs" / str(run.run_id)
        folder.mkdir(parents=True)
        (folder / DATA_MANIFEST).write_text(data.to_json())
        champion = adapters.alias("champion")
        write_outcomes(
            folder,
            CorrectionOutcomes(data_manifest_hash=data.hash, champion=champion, outcomes=outcomes),
        )
        staged = adapters.stage(run.run_id)
        (staged / "adapter_model.safetensors").write_bytes(b"weights")
        (staged / "adapter_config.json").write_text(json.dumps(CONFIG))
        version = adapters.publish(
            staged,
            parent=parent,
            run_id=run.run_id,
            data_manifest_hash=data.hash,
            metrics={f"gate/{name}": value for name, value in metrics.items()},
            verdict=PASSED,
            fence=lambda: None,
        ).version
        runs.to_gating(run.run_id, run.epoch)
        runs.finish(run.run_id, run.epoch, "CANDIDATE", version=version, verdict=PASSED)
        FeedbackStore(redis).complete(run.run_id)
        return version

    return perform


def outcome(feedback_id: str, champion: bool, candidate: bool) -> CorrectionOutcome:
    return CorrectionOutcome(
        feedback_id=feedback_id,
        champion_well=champion,
        candidate_well=candidate,
        lost=champion and not candidate,
    )


def give(redis: StoreClient) -> None:
    store = FeedbackStore(redis)
    for turn, expert in (("t1", "ann"), ("t2", "bob")):
        by = Rater(rater_id=expert, role="expert")
        place = {"conversation_id": "c", "turn_id": turn, "given_at": 1.0}
        store.add(Correction(**place, rater=by, response="You have 45 days."))
    visitor = Rater(rater_id="v1", role="visitor")
    store.add(Thumb(conversation_id="c", turn_id="t1", rater=visitor, given_at=1.0, value=-1))


def two_rounds(train: Round, adapters: AdapterStore) -> None:
    """Version 1 learned from ann, 2 from bob too; 2 is champion."""
    first = data_manifest(ANN, customers=("v1",), dropped=((THUMB, "near-duplicate"),))
    adapters.activate(train(0, first, outcome(ANN, False, True)), "eve", "better")
    second = data_manifest(ANN, BOB, held_out=(THUMB,), customers=("v1", "v2"))
    outcomes = outcome(ANN, True, True), outcome(BOB, False, False)
    adapters.activate(train(1, second, *outcomes, kl=2.5, old=1.0), "eve", "better still")


def test_a_version_says_what_it_was_made_of(
    amends: Amends, train: Round, adapters: AdapterStore
) -> None:
    two_rounds(train, adapters)
    told = json.loads(amends("lineage", "--adapter", "2", "--json").stdout)
    assert (told["ancestry"], told["aliases"], told["run_id"]) == ([1, 0], ["champion"], 2)
    assert told["run"]["reason"] == "12 new pieces"
    assert told["feedback"]["correction"]["train"] == [ANN, BOB]
    assert told["feedback"]["thumb"]["hold-out"] == [THUMB]
    assert [(r["rater"], r["role"], r["weight"]) for r in told["raters"]] == [
        ("ann", "expert", 1.0),
        ("bob", "expert", 1.0),
        ("v1", "visitor", 0.5),
    ]
    counts = {"learned": 0, "kept": 1, "lost": 0, "not learned": 1, "not asked": 0}
    assert told["corrections"]["counts"] == counts
    assert told["changed"] is None
    first = json.loads(amends("lineage", "--adapter", "1", "--json").stdout)
    assert first["set_aside"] == {"near-duplicate": 1}
    moves = [(move["action"], move["version"]) for move in first["alias_moves"]]
    assert moves == [("publish", 1), ("activate", 1), ("activate", 2)]

    shown = amends("lineage", "--adapter", "2", "--limit", "1").stdout
    assert "passed: KL: 2.5 nats" in shown
    assert "and 1 more; --json names them" in shown
    assert "and 2 more raters" in shown


def test_what_supervised_steps_did_not_learn_from_is_said_so(amends: Amends, train: Round) -> None:
    train(0, data_manifest(ANN, THUMB), outcome(ANN, False, True), kl=1.0)
    told = json.loads(amends("lineage", "--adapter", "1", "--json").stdout)["feedback"]
    assert (told["correction"]["train"], told["thumb"]["train"]) == ([ANN], [])
    assert told["thumb"]["not learned from"] == [THUMB]
    shown = amends("lineage", "--adapter", "1").stdout
    assert "1 of those used were in the batch but not learned from" in shown


def test_a_piece_of_feedback_says_what_became_of_it(
    amends: Amends, train: Round, adapters: AdapterStore, redis: StoreClient
) -> None:
    give(redis)
    assert "no version has seen it yet" in amends("lineage", "--feedback", ANN).stdout
    two_rounds(train, adapters)
    told = json.loads(amends("lineage", "--feedback", ANN, "--json").stdout)
    assert [(row["version"], row["what"], row["correction"]) for row in told["versions"]] == [
        (1, "learned from", "learned"),
        (2, "learned from", "kept"),
    ]
    assert [row["was_champion"] for row in told["versions"]] == [True, True]
    assert (told["in_the_weights_of"], told["champion"]) == ([1, 2], 2)
    shown = amends("lineage", "--feedback", THUMB).stdout
    assert "set aside: near-duplicate" in shown and "held out: judged with" in shown
    assert "In the weights of: no version (the champion, 2, is not among them)." in shown


def test_a_version_learned_what_was_said_then(
    amends: Amends, train: Round, adapters: AdapterStore, redis: StoreClient
) -> None:
    give(redis)
    two_rounds(train, adapters)
    by = Rater(rater_id="ann", role="expert")
    again = Correction(
        conversation_id="c", turn_id="t1", rater=by, given_at=9.0, response="You have 60 days."
    )
    FeedbackStore(redis).add(again)
    told = json.loads(amends("lineage", "--feedback", ANN, "--json").stdout)
    assert told["says"] == "You have 60 days."
    assert [row["said"] for row in told["versions"]] == ["You have 45 days."] * 2
    shown = amends("lineage", "--feedback", ANN).stdout
    assert "When version 1 learned it said: You have 45 days." in shown
    bobs = json.loads(amends("lineage", "--feedback", BOB, "--json").stdout)
    assert {row["said"] for row in bobs["versions"]} == {bobs["says"]} == {"You have 45 days."}
    assert "learned it said" not in amends("lineage", "--feedback", BOB).stdout


def test_what_a_champion_without_data_learned_from_is_not_denied(
    amends: Amends, train: Round, adapters: AdapterStore, redis: StoreClient, amends_home: Path
) -> None:
    give(redis)
    two_rounds(train, adapters)
    (amends_home / "runs" / "2" / DATA_MANIFEST).unlink()
    shown = amends("lineage", "--feedback", THUMB).stdout
    assert "In the weights of: no version (the champion, 2, is perhaps among them)." in shown


def test_what_an_ancestor_without_files_learned_from_is_not_denied(
    amends: Amends, train: Round, adapters: AdapterStore, redis: StoreClient
) -> None:
    give(redis)
    two_rounds(train, adapters)
    shutil.rmtree(adapters.folder(1))
    shown = amends("lineage", "--feedback", THUMB).stdout
    assert "(the champion, 2, is perhaps among them)" in shown
    assert "Not known of 1: what they learned from is not on this disk." in shown


def test_another_run_of_the_same_number_takes_no_files_from_a_version(
    train: Round, adapters: AdapterStore, amends_home: Path
) -> None:
    """Redis was emptied, the versions were not."""
    train(0, data_manifest(ANN), outcome(ANN, False, True))
    [manifest] = adapters.list()
    runs = amends_home / "runs"
    folder = runs / str(manifest.run_id)
    for another in (data_manifest(BOB), data_manifest(ANN, BOB)):
        set_aside(folder)
        (folder / DATA_MANIFEST).write_text(another.to_json())
        [found] = read_versions(runs, [manifest]).values()
        assert found.data == data_manifest(ANN) and found.outcomes is not None


def test_training_without_a_rater_is_one_command_and_its_version_says_what_changed(
    amends: Amends, train: Round, adapters: AdapterStore, redis: StoreClient
) -> None:
    give(redis)
    two_rounds(train, adapters)
    asked = amends("train", "--without-rater", "bob", "--reason", "copies and pastes")
    assert "Without rater bob." in asked.stdout
    assert "It trains from version 1, not from 2" in asked.stdout
    assert "copies and pastes" in amends("exclusions", "list").stdout
    assert "rater bob, since" in amends("lineage", "--feedback", BOB).stdout

    left_out = ((BOB, "left out: rater bob"),)
    data = data_manifest(ANN, held_out=(THUMB,), dropped=left_out, without=("rater bob",))
    train(1, data, outcome(ANN, True, False), kl=3.5)
    told = json.loads(amends("lineage", "--adapter", "3", "--json").stdout)["changed"]
    assert (told["before"], told["left_out"]) == (2, {"correction": 1})
    assert told["figures"] == {"gate/kl": [2.5, 3.5], "gate/old": [1.0, None]}
    assert (told["corrections_lost"], told["corrections_left_out"]) == ([ANN], [BOB])
    shown = amends("lineage", "--adapter", "3").stdout
    assert "Changed from version 2, the champion when it was judged:" in shown
    assert (told["parent"], told["not_built_upon"]) == (1, [2])
    assert "rater bob: copies and pastes" in amends("runs", "show", "3").stdout
    followed = amends("runs", "follow", "3").stdout
    assert "Changed from version 2, the champion when it was judged:" in followed
    assert "Changed from" not in amends("runs", "follow", "2").stdout

    # It stays so until it is lifted.
    assert "Without rater bob." in amends("train").stdout
    amends("runs", "cancel", "4")
    assert "learns from rater bob again" in amends("exclusions", "lift", "--rater", "bob").stdout
    assert "Without" not in amends("train").stdout
    rows = json.loads(amends("exclusions", "audit", "--json").stdout)
    assert [(row["action"], row["name"]) for row in rows] == [
        ("lifted", "bob"),
        ("excluded", "bob"),
    ]


def test_what_changed_beside_the_base_model_is_said_not_to_be_known(
    amends: Amends, train: Round, adapters: AdapterStore
) -> None:
    data = data_manifest(ANN, without=("rater bob",))
    train(0, data, outcome(ANN, False, True))
    shown = amends("lineage", "--adapter", "1").stdout
    assert "What changed is not known: it was judged beside the base model" in shown


def test_a_live_run_does_not_lose_the_exclusion(amends: Amends, redis: StoreClient) -> None:
    conversations = ConversationStore(redis)
    conversations.add_message(conversations.open("v1").conversation_id, "m", "Hello?")
    amends("train")
    refused = amends("train", "--without-customer", "v1", code=1)
    assert "wait for its end, or cancel it" in refused.stderr
    assert "customer v1" in refused.stderr
    assert "Run 1 is live and still learns from them; `amends runs cancel 1`" in refused.stderr
    amends("runs", "cancel", "1")
    assert "Without customer v1." in amends("train").stdout


def test_who_has_judged_and_written_nothing_is_left_out_only_by_force(
    amends: Amends, train: Round, adapters: AdapterStore, redis: StoreClient
) -> None:
    give(redis)
    refused = amends("train", "--without-rater", "bob", "--without-rater", "typo", code=1).stderr
    assert "no rater 'typo' has judged anything; known experts: ann, bob." in refused
    assert "no customer 'v9'" in amends("train", "--without-customer", "v9", code=1).stderr
    assert "Nobody is left out" in amends("exclusions", "list").stdout
    assert Runs(redis).list() == []
    forced = amends("train", "--without-rater", " typo ", "--force").stdout
    assert "Without rater typo." in forced
    amends("runs", "cancel", "1")
    two_rounds(train, adapters)
    redis.flushdb()  # a manifest still knows
    assert "Without customer v2." in amends("train", "--without-customer", "v2").stdout
    amends("runs", "cancel", "1")
    assert "rater ann" in amends("train", "--without-rater", "ann").stdout


def test_what_does_not_exist_is_named_with_what_does(
    amends: Amends, amends_home: Path, train: Round, adapters: AdapterStore
) -> None:
    two_rounds(train, adapters)
    for words, says in (
        (("--adapter", "9"), "version 9 does not exist; `amends adapters list` names"),
        (("--adapter", "0"), "version 0 is the base model"),
        (("--feedback", "thumb:t9:v9"), "no feedback thumb:t9:v9, and no version saw it"),
        (("--feedback", "pending"), "expected a feedback id such as correction:TURN:RATER"),
    ):
        assert says in amends("lineage", *words, code=1).stderr
    amends("lineage", code=2)
    amends("lineage", "--adapter", "1", "--feedback", ANN, code=2)
    amends("exclusions", "lift", code=2)
    assert "1 to 128 characters" in amends("train", "--without-rater", "", code=1).stderr
    assert "nobody" in amends("exclusions", "lift", "--rater", "bob", code=1).stderr

    manifest = amends_home / "runs" / "2" / DATA_MANIFEST
    manifest.write_text(data_manifest(ANN).to_json())  # another install's run of this number
    assert "SHA-256" in amends("lineage", "--adapter", "2", code=1).stderr
    manifest.unlink()
    assert "there is none" in amends("lineage", "--adapter", "2", code=1).stderr
    shown = amends("lineage", "--feedback", ANN).stdout
    assert "Not known of 2: what they learned from is not on this disk." in shown


def test_outcomes_that_cannot_be_read_are_as_if_there_were_none(
    train: Round, adapters: AdapterStore, amends_home: Path
) -> None:
    train(0, data_manifest(ANN), outcome(ANN, False, True))
    [manifest] = adapters.list()
    runs = amends_home / "runs"
    assert read_outcomes(runs, manifest) is not None
    (runs / str(manifest.run_id) / "corrections.json").write_text('{"torn": ')
    assert read_outcomes(runs, manifest) is None
    [(number, version)] = read_versions(runs, [manifest]).items()
    assert (number, version.outcomes) == (1, None) and version.data is not None
