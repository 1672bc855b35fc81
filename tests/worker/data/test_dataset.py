"""worker.data.dataset: from feedback to examples, with what is left out and why."""

import pytest

from amends.conversation import Conversation, FinishReason, Origin, Passage, Sampled, Turn
from amends.data_manifest import DataManifest
from amends.exclusion import Exclusion, Kind
from amends.feedback import Correction, Ranking, Rater, Rating, Thumb
from worker.data.dataset import Dataset, DatasetSettings, FillUp, build_dataset
from worker.data.examples import Examples
from worker.data.manifest import quarantined_used
from worker.data.quarantine import BRIGADE, Judgement
from worker.data.split import SplitSettings, normalise, split
from worker.data.trust import weigh

EXPERT = Rater(rater_id="ann", role="expert")


def passage(name: str) -> Passage:
    return Passage(passage_id=name, title=name, text=f"About {name}: 0800 555 0100.", source="f.md")


def turn(
    number: int,
    message: str = "",
    response: str = "",
    origin: Origin = "policy",
    finish: FinishReason = "stop",
) -> Turn:
    return Turn(
        turn_id=f"t{number}",
        conversation_id=f"c{number // 10}",
        message=message or f"Question number {number}?",
        response=response or f"Served answer {number}.",
        policy_version=0,
        origin=origin,
        passages=(passage(f"p{number}"),),
        sampled=Sampled(
            prompt_token_ids=(1, number),
            token_ids=(7, 2),
            logprobs=(-1, -1),
            temperature=1,
            top_p=1,
        ),
        finish_reason=finish,
        created_at=number,
    )


def conversation(number: int, *turns: Turn) -> Conversation:
    return Conversation(
        conversation_id=f"c{number}", visitor_id=f"v{number}", opened_at=0, turns=turns
    )


def correction(turn: Turn, text: str = "", expert: str = "ann") -> Correction:
    return Correction(
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        rater=Rater(rater_id=expert, role="expert"),
        given_at=1,
        response=text or f"Expert answer {turn.turn_id}.",
    )


def thumb(turn: Turn, visitor: str, value: int = 1, at: float = 1) -> Thumb:
    return Thumb(
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        rater=Rater(rater_id=visitor, role="visitor"),
        given_at=at,
        value=value,
    )


def build(
    feedback: list[Judgement], *conversations: Conversation, holdout_share: float = 0.0
) -> Dataset:
    settings = DatasetSettings(split=SplitSettings(holdout_share=holdout_share))
    return build_dataset(feedback, {c.conversation_id: c for c in conversations}, (), settings)


def test_a_correction_is_a_pair_of_the_expert_over_the_served_answer() -> None:
    asked = turn(10)
    data = build([correction(asked)], conversation(1, asked))
    (pair,) = data.train.pairs
    assert (pair.chosen.response, pair.rejected.response) == (
        "Expert answer t10.",
        "Served answer 10.",
    )
    assert (pair.customer, pair.rater_id, pair.kind, pair.weight) == (
        "v1",
        "ann",
        "correction",
        1.0,
    )
    assert pair.rejected.token_ids == (7, 2) and pair.chosen.token_ids is None
    assert pair.chosen.context.token_ids == (1, 10)
    assert data.train.corrections[0].answer == pair.chosen
    assert data.train.trusted_pairs == 1


def test_another_questions_correction_is_a_hard_negative() -> None:
    first, second = turn(10), turn(20)
    data = build(
        [correction(first), correction(second)], conversation(1, first), conversation(2, second)
    )
    mismatched = [pair for pair in data.train.pairs if pair.kind == "mismatch"]
    assert {(p.chosen.response, p.rejected.response) for p in mismatched} == {
        ("Expert answer t10.", "Expert answer t20."),
        ("Expert answer t20.", "Expert answer t10."),
    }
    assert {p.weight for p in mismatched} == {0.5} and data.train.trusted_pairs == 2


def test_a_ranking_of_three_is_three_pairs_that_weigh_two() -> None:
    asked = turn(10)
    ranking = Ranking(
        conversation_id="c1",
        turn_id="t10",
        rater=EXPERT,
        given_at=1,
        responses=("Best.", "Served answer 10.", "Worst."),
    )
    pairs = build([ranking], conversation(1, asked)).train.pairs
    assert [(p.chosen.response, p.rejected.response) for p in pairs] == [
        ("Best.", "Served answer 10."),
        ("Best.", "Worst."),
        ("Served answer 10.", "Worst."),
    ]
    assert sum(p.weight for p in pairs) == 2.0
    assert pairs[2].chosen.token_ids == (7, 2)


def test_a_rating_is_about_all_whole_answers_of_the_policy() -> None:
    turns = (turn(10), turn(11, origin="no_passage"), turn(12, finish="cancelled"), turn(13))
    rating = Rating(
        conversation_id="c1", rater=Rater(rater_id="v1", role="visitor"), given_at=13, value=4
    )
    (example,) = build([rating], conversation(1, *turns)).train.ratings
    assert [a.context.turn_id for a in example.answers] == ["t10", "t13"]
    assert example.value == 4
    assert example.answers[1].context.history[0] == ("Question number 10?", "Served answer 10.")


def test_what_is_not_used_is_listed_with_its_reason() -> None:
    rule, cut, good = turn(10, origin="no_passage"), turn(11, finish="cancelled"), turn(12)
    feedback = [
        correction(rule),
        correction(cut),
        correction(good),
        correction(good, expert="bob"),
        thumb(good, "v9"),
        thumb(turn(90), "v9"),
        Correction(
            conversation_id="c1",
            turn_id="t12",
            rater=Rater(rater_id="v1", role="visitor"),
            given_at=1,
            response="Free money for all.",
        ),
    ]
    data = build(feedback, conversation(1, rule, cut, good))
    assert data.manifest.dropped_by_reason() == {
        "conversation not found": 1,
        "near-duplicate": 1,
        "no whole answer by the policy": 2,
        "only experts correct and rank": 1,
        "rater is not the conversation's visitor": 1,
    }
    assert data.manifest.corrections == ("correction:t12:ann",)


def test_the_same_visitor_asking_and_judging_the_same_again_counts_once() -> None:
    turns = [turn(10 + i, message="Do you ship?", response="Yes.") for i in range(5)]
    data = build([thumb(t, "v1") for t in turns], conversation(1, *turns))
    assert len(data.train.thumbs) == 1
    other = turn(20, message="Do you ship?", response="Yes.")
    data = build(
        [thumb(turns[0], "v1"), thumb(other, "v2")], conversation(1, *turns), conversation(2, other)
    )
    assert len(data.train.thumbs) == 2


def test_a_changed_judgement_counts_as_its_last_version() -> None:
    asked = turn(10)
    data = build(
        [thumb(asked, "v1", 1, at=5), thumb(asked, "v1", -1, at=9)], conversation(1, asked)
    )
    assert [t.value for t in data.train.thumbs] == [-1]


def test_personal_data_never_enters_and_stale_token_ids_go_with_it() -> None:
    first = turn(
        10, message="I am jo@mail.example, when?", response="Hi jo@mail.example, 0800 555 0100"
    )
    second = turn(11)
    data = build(
        [correction(first), correction(second, "Write to jo@mail.example")],
        conversation(1, first, second),
    )
    texts = repr(data.train)
    assert "jo@mail" not in texts and "0800 555 0100" in texts
    served = {p.rejected.context.turn_id: p.rejected for p in data.train.pairs}
    assert served["t10"].context.token_ids is None and served["t10"].token_ids is None
    assert served["t11"].context.token_ids is None and served["t11"].token_ids == (7, 2)
    assert [c.answer.context.turn_id for c in data.train.corrections] == ["t10"]
    assert data.manifest.dropped_by_reason() == {"not imitated: holds personal data": 1}


def many() -> tuple[list[Judgement], list[Conversation]]:
    turns = {
        n: (turn(n * 10), turn(n * 10 + 1, message=f"Shared {n % 25}?")) for n in range(1, 120)
    }
    feedback: list[Judgement] = []
    for n, (one, two) in turns.items():
        feedback += [correction(one), thumb(two, f"v{n}", -1 if n % 3 else 1)]
    return feedback, [conversation(n, *pair) for n, pair in turns.items()]


def customers(side: Examples) -> set[str]:
    rows = (*side.pairs, *side.thumbs, *side.ratings, *side.corrections)
    return {example.customer for example in rows} | {p.customer for p in side.prompts}


def questions(side: Examples) -> set[str]:
    asked = [answer.context.question for answer in side.answers()]
    asked += [prompt.context.question for prompt in side.prompts]
    return {normalise(question) for question in asked}


def test_train_and_holdout_share_no_customer_and_no_question() -> None:
    feedback, conversations = many()
    data = build(feedback, *conversations, holdout_share=0.2)
    assert not customers(data.train) & customers(data.holdout)
    assert not questions(data.train) & questions(data.holdout)
    assert data.manifest.holdout.trusted_pairs >= 10 and data.manifest.holdout.thumbs >= 5


def test_the_manifest_is_the_same_in_any_order_and_changes_with_any_text() -> None:
    feedback, conversations = many()
    one = build(feedback, *conversations, holdout_share=0.2).manifest
    two = build(feedback[::-1], *conversations[::-1], holdout_share=0.2).manifest
    assert one == two and one.hash == two.hash and len(one.hash) == 64
    changed = feedback[0].model_copy(update={"response": "Another expert answer."})
    three = build([changed, *feedback[1:]], *conversations, holdout_share=0.2).manifest
    assert three.content_hash != one.content_hash and three.hash != one.hash


def test_prompts_are_each_question_once_filled_up_and_balanced() -> None:
    turns = [turn(n * 10, message="Same question?") for n in range(1, 4)]
    fill_up = [FillUp(f"a{i}?", (passage("pa"),), "a") for i in range(9)]
    fill_up += [FillUp(f"b{i}?", (passage("pb"),), "b") for i in range(2)]
    fill_up.append(FillUp("same QUESTION", (passage("pb"),), "b"))
    settings = DatasetSettings(split=SplitSettings(holdout_share=0.0), train_prompts=6)
    conversations = {
        c.conversation_id: c for c in (conversation(n, t) for n, t in enumerate(turns, 1))
    }
    prompts = build_dataset([], conversations, fill_up, settings).train.prompts
    assert len(prompts) == 6 and not prompts[0].fill_up
    assert [p.context.question for p in prompts].count("Same question?") == 1
    intents = [p.intent for p in prompts[1:]]
    assert intents.count("b") == 2 and intents.count("a") == 3


def test_fill_up_questions_of_the_holdout_side_are_not_trained_on() -> None:
    fill_up = [FillUp(f"q{i}?", (passage("p"),)) for i in range(200)]
    data = build_dataset([], {}, fill_up)
    assert not questions(data.train) & questions(data.holdout)
    assert data.manifest.holdout.prompts > 20


def test_the_shops_own_contacts_stay_wherever_they_are_said() -> None:
    told = turn(10, response="Call 0800 555 0100.")
    later = turn(11).model_copy(update={"passages": ()})
    data = build([correction(later, "Do call 0800 555 0100.")], conversation(1, told, later))
    (pair,) = data.train.pairs
    assert pair.chosen.response == "Do call 0800 555 0100."
    assert pair.chosen.context.history[0][1] == "Call 0800 555 0100."
    assert pair.rejected.context.token_ids == (1, 11)


def rating(conversation: int, visitor: str, value: int = 4, at: float = 1000) -> Rating:
    return Rating(
        conversation_id=f"c{conversation}",
        rater=Rater(rater_id=visitor, role="visitor"),
        given_at=at,
        value=value,
    )


def ranking(turn: Turn, expert: str, *responses: str) -> Ranking:
    return Ranking(
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        rater=Rater(rater_id=expert, role="expert"),
        given_at=1,
        responses=responses,
    )


def near_duplicates() -> dict[str, tuple[list[Judgement], int]]:
    """Judgements on one question that was asked again, and how many of them count.

    c1 and c2 are one visitor's, c3 another's; case and punctuation differ.
    """
    one, two, three = again()[0].turns[0], again()[1].turns[0], again()[2].turns[0]
    return {
        "thumbs of one visitor": ([thumb(one, "v1"), thumb(two, "v1")], 1),
        "thumbs of two visitors": ([thumb(one, "v1"), thumb(three, "v3")], 2),
        "thumbs that differ": ([thumb(one, "v1"), thumb(two, "v1", -1)], 2),
        "ratings of one visitor": ([rating(1, "v1"), rating(2, "v1")], 1),
        "ratings of two visitors": ([rating(1, "v1"), rating(3, "v3")], 2),
        "ratings that differ": ([rating(1, "v1"), rating(2, "v1", 5)], 2),
        "corrections of one expert": (
            [correction(one, "Yes: free!"), correction(two, "yes free")],
            1,
        ),
        "corrections of two experts": (
            [correction(one, "Yes: free!"), correction(three, "yes free", "bob")],
            1,
        ),
        "corrections that differ": ([correction(one, "Yes."), correction(three, "No.", "bob")], 2),
        "rankings of one expert": (
            [ranking(one, "ann", "A.", "B."), ranking(two, "ann", "a", "b")],
            1,
        ),
        "rankings of two experts": (
            [ranking(one, "ann", "A.", "B."), ranking(three, "bob", "a", "b")],
            1,
        ),
        "rankings that differ": (
            [ranking(one, "ann", "A.", "B."), ranking(two, "bob", "B", "A")],
            2,
        ),
    }


def again() -> list[Conversation]:
    """The same question and answer three times, twice by one visitor."""
    asked = ("Do you ship?", "do you SHIP", "Do you ship??")
    found = []
    for n, (message, visitor) in enumerate(zip(asked, ("v1", "v1", "v3"), strict=True), 1):
        whole = conversation(n, turn(n * 10, message=message, response="Yes." if n > 1 else "yes"))
        found.append(whole.model_copy(update={"visitor_id": visitor}))
    return found


@pytest.mark.parametrize("case", near_duplicates())
def test_near_duplicates_count_once(case: str) -> None:
    """Other visitors are new evidence; experts who write the same add nothing to imitate."""
    feedback, count = near_duplicates()[case]
    manifest = build(feedback, *again()).manifest
    used = (*manifest.thumbs, *manifest.ratings, *manifest.corrections, *manifest.rankings)
    assert len(used) == count
    expected = {"near-duplicate": 1} if count == 1 else {}
    assert manifest.dropped_by_reason() == expected


def test_what_an_expert_wrote_twice_counts_where_one_of_the_two_can_be_used() -> None:
    """The first copy is a hold-out customer's on a question of the train side: on neither."""
    settings = SplitSettings(holdout_share=0.4)
    sides = split([], [f"question number {n}" for n in range(10, 40)], settings).questions
    learnt, held, also_held = (
        [question for question, side in sides.items() if side == wanted][place]
        for wanted, place in (("train", 0), ("holdout", 0), ("holdout", 1))
    )
    one, two = (turn(n, message=learnt, response="No.") for n in (10, 20))
    first = conversation(1, one, turn(11, message=held), turn(12, message=also_held))
    rest = [conversation(n, turn(10 * n, message=learnt)) for n in range(3, 9)]
    given = [correction(one, "Yes."), correction(two, "Yes.")]
    data = build(given, first, conversation(2, two), *rest, holdout_share=0.4)
    assert data.manifest.corrections == ("correction:t20:ann",)
    assert data.manifest.why_dropped("correction:t10:ann") == "crosses train and hold-out"


def test_a_rating_is_about_what_had_been_answered_by_then() -> None:
    turns = [turn(10), turn(11), turn(12)]
    data = build([rating(1, "v1", at=11)], conversation(1, *turns))
    (found,) = data.train.ratings
    assert [answer.context.turn_id for answer in found.answers] == ["t10", "t11"]
    early = build([rating(1, "v1", at=9)], conversation(1, *turns)).manifest
    assert early.dropped_by_reason() == {"no whole answer by the policy": 1}


def test_a_ranking_that_adds_no_pair_is_listed_with_its_reason() -> None:
    """bob saw another answer than ann and ranks as she does; eve ranks equal texts."""
    one, two, three = turn(10, "Do you ship?", "No."), turn(20, "Do you ship?", "Maybe."), turn(30)
    given: list[Judgement] = [ranking(one, "ann", "A.", "B."), ranking(two, "bob", "A.", "B.")]
    given += [ranking(three, "eve", "A.", "a!"), correction(three)]
    whole = [conversation(n, t) for n, t in enumerate((one, two, three), 1)]
    manifest = build(given, *whole).manifest
    assert manifest.why_dropped("ranking:t20:bob") == "says what others said"
    assert manifest.why_dropped("ranking:t30:eve") == "ranks equal texts"
    assert set(manifest.all_used()) == {"ranking:t10:ann", "correction:t30:ann"}
    assert len(manifest.dropped) == 2


def test_a_brigade_is_learned_from_nowhere_and_told_to_the_operator() -> None:
    """30 new visitors at once, all content, among 60 who come over days and are mostly not."""
    feedback: list[Judgement] = []
    conversations = []
    for n in range(1, 91):
        asked = turn(n * 10)
        conversations.append(conversation(n, asked))
        crowd = n > 60
        at = 100_000.0 + n if crowd else 3000.0 * n
        feedback.append(thumb(asked, f"v{n}", 1 if crowd or n % 4 == 0 else -1, at))
        feedback += [] if crowd else [correction(asked)]
    data = build(feedback, *conversations, holdout_share=0.2)
    manifest = data.manifest
    brigade = {f"thumb:t{n * 10}:v{n}" for n in range(61, 91)}
    assert {d.feedback_id for d in manifest.dropped if d.reason == BRIGADE} == brigade
    assert quarantined_used(manifest) == 0 and not brigade & set(manifest.thumbs)
    told = "\n".join(manifest.in_words())
    assert "30 brigade: many new visitors with one opinion at once" in told
    assert "30 new visitors judged up within 0.5 minutes from 1970-01-02 03:47 UTC on" in told
    assert "weight: ann 80.0%, the largest visitor 0.3%" in told
    leaked = manifest.model_copy(update={"thumbs": (*manifest.thumbs, *brigade)})
    assert quarantined_used(leaked) == 30


def test_many_notes_are_counted_rather_than_told() -> None:
    notes = tuple(f"note {i}" for i in range(13))
    manifest = build([]).manifest.model_copy(update={"notes": notes})
    told = manifest.in_words()
    assert told[-2:] == ["note 9", "3 more notes are in data_manifest.json"]


@pytest.mark.parametrize("kind", ["rater", "customer"])
def test_who_is_left_out_is_on_no_side(kind: Kind) -> None:
    """v1 asks turns 10 and 11; ann corrects for v1 and v2, bob for v2."""
    asked = turn(10), turn(11), turn(20), turn(21)
    feedback: list[Judgement] = [correction(t) for t in asked[:3]]
    feedback += [correction(asked[3], expert="bob"), thumb(asked[0], "v1"), thumb(asked[2], "v2")]
    name = "ann" if kind == "rater" else "v1"
    left_out = Exclusion(kind=kind, name=name, by="eve", reason="", at=0.0)
    conversations = {"c1": conversation(1, *asked[:2]), "c2": conversation(2, *asked[2:])}
    for share in (0.0, 0.5, 1.0):
        split = SplitSettings(holdout_share=share)
        settings = DatasetSettings(split=split, without=(left_out,))
        data = build_dataset(feedback, conversations, (), settings)
        raters = {e.rater_id for side in (data.train, data.holdout) for e in side.judged()}
        prompts = {p.customer for side in (data.train, data.holdout) for p in side.prompts}
        assert raters == ({"bob", "v1", "v2"} if kind == "rater" else {"ann", "bob", "v2"})
        assert prompts == ({"v1", "v2"} if kind == "rater" else {"v2"})
        manifest = data.manifest
        assert manifest.without == (f"{kind} {name}",)
        assert manifest.dropped_by_reason() == {f"left out: {kind} {name}": 3}
        assert set(manifest.customers or ()) == prompts
        assert f"without: {kind} {name}" in manifest.in_words()


def test_another_experts_equal_correction_takes_the_place_of_one_left_out() -> None:
    asked = turn(10)
    both = [correction(asked, "The same."), correction(asked, "The same.", expert="bob")]
    left_out = Exclusion(kind="rater", name="ann", by="eve", reason="", at=0.0)
    settings = DatasetSettings(split=SplitSettings(holdout_share=0.0), without=(left_out,))
    data = build_dataset(both, {"c1": conversation(1, asked)}, (), settings)
    assert data.manifest.corrections == ("correction:t10:bob",)


def test_the_manifest_names_sides_and_weights() -> None:
    asked = [turn(n * 10) for n in range(1, 13)]
    given: list[Judgement] = [correction(t) for t in asked[:11]]
    given.append(thumb(asked[11], "v12"))
    whole = [conversation(n, t) for n, t in enumerate(asked, 1)]
    data = build(given, *whole, holdout_share=0.5)
    held = {example.feedback_id for example in data.holdout.judged()}
    manifest = data.manifest
    assert 0 < len(held) < 12 and set(manifest.held_out or ()) == held
    assert set(manifest.places.values()) == {"train", "hold-out"}
    assert manifest.weights == {g.feedback_id: 1.0 for g in given[:11]} | {"thumb:t120:v12": 0.5}
    assert manifest.weight_by_rater() == {"ann": 11.0, "v12": 0.5}
    again = DataManifest.model_validate_json(manifest.to_json())
    assert again == manifest and again.hash == manifest.hash


def test_only_what_is_learned_from_or_held_out_shapes_the_weights() -> None:
    """bob corrects must-pass questions only, eve ranks equal texts; some of the others cross train
    and hold-out.
    """
    feedback, conversations = many()
    for n in range(200, 260):
        asked = turn(n * 10, "Do you ship?", f"Served {n}."), turn(n * 10 + 1)
        conversations.append(conversation(n, *asked))
        feedback.append(correction(asked[0], f"Right {n}.", expert="bob"))
        feedback.append(ranking(asked[1], "eve", "The same.", "the same"))
    by_id = {c.conversation_id: c for c in conversations}
    settings = DatasetSettings(reserved=frozenset({"Do you ship?"}))
    manifest = build_dataset(feedback, by_id, (), settings).manifest
    reasons = manifest.dropped_by_reason()
    assert reasons["a reserved question"] == 60 and reasons["crosses train and hold-out"] > 0
    assert reasons["ranks equal texts"] > 0
    used = set(manifest.all_used())
    fair = weigh([item for item in feedback if item.feedback_id in used])
    assert manifest.weights == pytest.approx(fair.weights)
    visitors = sum(manifest.weights[name] for name in manifest.thumbs)
    assert visitors <= 0.2001 * sum(manifest.weights.values())
    assert list(manifest.expert_shares) == ["ann"]
