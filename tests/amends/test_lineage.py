"""amends.lineage: who learned from whom, and where training begins without them."""

import pytest

from amends.adapter_audit import Action, AuditRow
from amends.correction_outcomes import CorrectionOutcome, CorrectionOutcomes, Outcome
from amends.exclusion import Exclusion, Kind
from amends.lineage import alias_moves, ancestry, carriers, change, clean_parent, fate
from tests.amends.lineage_values import data_manifest, version

ANN, BOB = "correction:t1:ann", "correction:t2:bob"


def without(kind: Kind, name: str) -> tuple[Exclusion, ...]:
    return (Exclusion(kind=kind, name=name, by="eve", reason="", at=0.0),)


LINE = {
    1: version(1, 0, data_manifest(ANN, customers=("v1",))),
    2: version(2, 1, data_manifest(ANN, BOB, customers=("v1", "v2"))),
    3: version(3, 1, data_manifest(ANN, customers=("v1",))),
    4: version(4, 2, data_manifest(ANN, customers=("v1", "v3"))),
}


def test_ancestry_ends_at_the_base_model() -> None:
    assert ancestry(4, LINE) == (4, 2, 1, 0)
    assert ancestry(0, LINE) == (0,)
    assert ancestry(9, LINE) == (9, 0)


@pytest.mark.parametrize(
    ("champion", "kind", "name", "parent", "behind"),
    [
        (4, "rater", "bob", 1, (2, 4)),  # 4 did not use bob's, but was trained from 2
        (3, "rater", "bob", 3, ()),
        (4, "rater", "ann", 0, (1, 2, 4)),
        (4, "customer", "v2", 1, (2, 4)),
        (4, "customer", "v3", 2, (4,)),
        (4, "customer", "ann", 4, ()),  # an expert is no customer
        (0, "rater", "ann", 0, ()),
    ],
)
def test_training_begins_at_the_newest_ancestor_that_never_used_them(
    champion: int, kind: Kind, name: str, parent: int, behind: tuple[int, ...]
) -> None:
    assert clean_parent(champion, LINE, without(kind, name)) == (parent, behind)


def test_held_out_judgements_count_as_used() -> None:
    line = {1: version(1, 0, data_manifest(held_out=(BOB,)))}
    assert clean_parent(1, line, without("rater", "bob")) == (0, (1,))


def test_a_version_whose_data_nobody_can_name_is_not_built_upon() -> None:
    line = LINE | {2: version(2, 1, None)}
    assert clean_parent(4, line, without("rater", "somebody")) == (1, (2, 4))
    gone = {number: known for number, known in LINE.items() if number != 2}
    assert clean_parent(4, gone, without("rater", "somebody")) == (0, (2, 4))


def test_data_of_an_older_schema_name_raters_but_no_customers() -> None:
    old = data_manifest(ANN).model_copy(update={"customers": None, "held_out": None})
    line = {1: version(1, 0, old)}
    assert clean_parent(1, line, without("rater", "bob")) == (1, ())
    assert clean_parent(1, line, without("customer", "v9")) == (0, (1,))
    assert fate(line[1], ANN) == "learned from (side unknown)"


def test_what_a_round_did_with_a_judgement_in_words() -> None:
    dropped = (("thumb:t1:v1", "near-duplicate"), (ANN, "not imitated: holds personal data"))
    found = version(1, 0, data_manifest(ANN, held_out=(BOB,), dropped=dropped))
    assert fate(found, ANN) == "learned from; not imitated: holds personal data"
    assert fate(found, BOB) == "held out: judged with"
    assert fate(found, "thumb:t1:v1") == "set aside: near-duplicate"
    assert fate(found, "thumb:t9:v9") is None


def test_weights_carry_what_their_ancestors_learned() -> None:
    assert carriers(BOB, LINE) == (2, 4)
    assert carriers(BOB, {1: version(1, 0, data_manifest(held_out=(BOB,)))}) == ()


def test_supervised_steps_alone_learn_from_corrections_only() -> None:
    thumb = "thumb:t1:v1"
    data = data_manifest(ANN, thumb)
    alone = version(1, 0, data, **{"gate/kl": 2.0})
    assert fate(alone, ANN) == "learned from"
    assert fate(alone, thumb) == "in the batch: supervised steps learn from corrections only"
    assert (carriers(ANN, {1: alone}), carriers(thumb, {1: alone})) == ((1,), ())
    private = data_manifest(ANN, dropped=((ANN, "not imitated: holds personal data"),))
    unread = version(1, 0, private, **{"gate/kl": 2.0})
    assert carriers(ANN, {1: unread}) == ()
    assert fate(unread, ANN) == (
        "in the batch: supervised steps learn from corrections only; "
        "not imitated: holds personal data"
    )
    rewarded = version(1, 0, data, **{"gate/kl": 2.0, "gate/reward_gain": 0.5})
    assert fate(rewarded, thumb) == "learned from"
    assert carriers(thumb, {1: rewarded}) == (1,)


def test_moves_of_a_version_end_with_the_one_that_replaced_it() -> None:
    rows = [
        row(1, "publish", 1, 0),
        row(2, "activate", 1, 1),
        row(3, "publish", 2, 1),
        row(4, "activate", 2, 2),
        row(5, "roll_back", 1, 1),
    ]
    assert [r.number for r in alias_moves(1, rows)] == [1, 2, 4, 5]
    assert [r.number for r in alias_moves(2, rows)] == [3, 4, 5]


def test_a_candidate_that_was_withdrawn_or_displaced_tells_so() -> None:
    rows = [
        row(1, "publish", 1, 0),
        row(2, "set_candidate", 1, 0),
        row(3, "set_candidate", None, 0),  # what a canary does with a bad one
        row(4, "set_candidate", None, 0),
        row(5, "set_candidate", 1, 0),
        row(6, "publish", 2, 0),
        row(7, "set_candidate", 2, 0),
        row(8, "activate", 2, 2),
        row(9, "set_candidate", 3, 2),
    ]
    assert [r.number for r in alias_moves(1, rows)] == [1, 2, 3, 5, 7]
    assert [r.number for r in alias_moves(2, rows)] == [6, 7, 8]
    again = [row(1, "set_candidate", 1, 0), row(2, "new_line", None, 0)]
    assert [r.number for r in alias_moves(1, again)] == [1, 2]


def test_a_change_counts_what_was_left_out_and_sets_figures_side_by_side() -> None:
    thumb = "thumb:t2:bob"
    old = {"kl": 2.0, "old": 1.0, "gate/candidate/ended": 0.1}
    before = version(1, 0, data_manifest(ANN, BOB, thumb, customers=("v1", "v2")), **old)
    left_out = ((BOB, "left out: rater bob"), (thumb, "left out: rater bob"))
    lost = CorrectionOutcome(feedback_id=ANN, champion_well=True, candidate_well=False, lost=True)
    after = version(
        2,
        0,
        data_manifest(
            ANN, "thumb:t3:v3", customers=("v2",), dropped=left_out, without=("rater bob",)
        ),
        CorrectionOutcomes(data_manifest_hash="", champion=1, outcomes=(lost,)),
        **{"kl": 3.0, "gate/champion/ended": 0.2, "gate/candidate/ended": 0.9},
    )
    found = change(before, after, (1, 0), (2, 0))
    assert (found.parent, found.not_built_upon, found.customers) == (0, (1,), (2, 1))
    assert found.left_out == found.gone == {"correction": 1, "thumb": 1}
    assert found.new == {"thumb": 1}
    # Both answered the same questions at the new version's gate: 0.1 was of other ones.
    assert found.figures == {"answers/ended": (0.2, 0.9), "kl": (2.0, 3.0), "old": (1.0, None)}
    assert (found.corrections_lost, found.corrections_left_out) == ((ANN,), (BOB,))


@pytest.mark.parametrize(
    ("champion", "candidate", "lost", "outcome"),
    [
        (True, True, False, "kept"),
        (True, False, False, "kept"),  # one answer is one draw: the gate does not call it lost
        (True, False, True, "lost"),
        (False, True, False, "learned"),
        (False, False, False, "not learned"),
    ],
)
def test_an_outcome_is_what_the_gate_would_say(
    champion: bool, candidate: bool, lost: bool, outcome: Outcome
) -> None:
    given = CorrectionOutcome(
        feedback_id=ANN, champion_well=champion, candidate_well=candidate, lost=lost
    )
    assert given.outcome == outcome


def row(number: int, action: Action, version: int | None, champion: int) -> AuditRow:
    return AuditRow(
        number=number,
        at=0.0,
        by="eve",
        action=action,
        version=version,
        champion=champion,
        reason="",
    )
