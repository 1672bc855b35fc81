"""worker.judge.paper and the asking again of worker.judge.examination: what counts as lost."""

from typing import Any, cast

import pytest

from worker.data.examples import Answer, Context, PromptExample
from worker.judge.examination import Examiner
from worker.judge.paper import BASE, CANDIDATE, CHAMPION, Found, Paper, Question, answers_well
from worker.judge.probes import Probe
from worker.learning_settings import LearningSettings

GOOD, BAD = (1.0, 0.1), (-1.0, 0.1)  # the judge's mark, and its doubt
SURE = object()
EXACTLY = LearningSettings(gate_rewordings=0)
NOTHING = Paper((), {BASE: (), CANDIDATE: ()}, {BASE: [], CANDIDATE: []}, {BASE: [], CANDIDATE: []})


def questions(count: int, *experts: str) -> tuple[Question, ...]:
    return tuple(
        Question(
            PromptExample(Context("", f"question {i}?", (), (), None), str(i), "", True), experts
        )
        for i in range(count)
    )


def paper(
    *rows: tuple[tuple[float, float], tuple[float, float]],
    experts: tuple[str, ...] = (),
    said: tuple[str, str] = ("It is so.", "It is so."),
) -> Paper:
    """(champion's mark, candidate's mark) per question, and what each says to all of them."""
    asked = questions(len(rows), *experts)

    def answers(text: str) -> tuple[Answer, ...]:
        return tuple(Answer(q.prompt.context, text, (1,), True) for q in asked)

    marks = {BASE: [row[0] for row in rows], CANDIDATE: [row[1] for row in rows]}
    return Paper(
        asked,
        {BASE: answers(said[0]), CANDIDATE: answers(said[1])},
        {policy: [mark for mark, _ in some] for policy, some in marks.items()},
        {policy: [doubt for _, doubt in some] for policy, some in marks.items()},
    )


def test_only_what_the_champion_answers_well_can_be_lost() -> None:
    assert paper((GOOD, BAD), (BAD, BAD), (GOOD, GOOD)).judged(BASE) == ({0, 2}, {0})


def test_a_judge_in_doubt_loses_nothing() -> None:
    assert paper((GOOD, (-1.0, 1.0))).judged(BASE) == ({0}, set())
    assert paper(((0.3, 0.2), (-0.3, 0.2))).judged(BASE) == ({0}, set())


def test_worse_but_still_well_is_kept() -> None:
    assert paper(((3.0, 0.1), (0.5, 0.1))).judged(BASE) == ({0}, set())


def test_what_is_no_answer_is_lost_whatever_the_judge_finds() -> None:
    deflects = "I cannot help with that."
    assert paper((GOOD, GOOD), said=("It is so.", deflects)).judged(BASE) == ({0}, {0})
    assert paper((GOOD, GOOD), said=("It is so.", "...")).judged(BASE) == ({0}, {0})
    assert paper((GOOD, BAD), said=(deflects, deflects)).judged(BASE) == (set(), set())


def test_a_must_pass_question_is_lost_by_no_answer_whatever_the_champions_mark() -> None:
    deflects = "I cannot help with that."
    found = paper((BAD, GOOD), said=("It is so.", deflects))
    assert found.judged(BASE) == (set(), set())
    assert found.answered_or_judged(BASE) == ({0}, {0})
    assert paper((BAD, GOOD)).answered_or_judged(BASE) == ({0}, set())
    assert paper((GOOD, BAD)).answered_or_judged(BASE) == ({0}, {0})
    assert paper((GOOD, GOOD), said=(deflects, "")).answered_or_judged(BASE) == (set(), set())
    asks = "Could you tell me which order you mean?"
    assert paper((BAD, GOOD), said=("It is so.", asks)).answered_or_judged(BASE) == ({0}, {0})
    invents = "It takes 97 days."  # who admits not to know is better
    said = ("It is so.", invents)
    assert paper((GOOD, BAD), said=said).invented(BASE) == ({0}, {0})
    assert paper((BAD, GOOD), said=said).answered_or_judged(BASE) == ({0}, set())
    assert paper((BAD, GOOD), said=(invents, deflects)).answered_or_judged(BASE) == (set(), set())


def test_saying_nothing_is_not_answering_well() -> None:
    (context,) = (question.prompt.context for question in questions(1))
    assert answers_well(Answer(context, "So.", (1,), True), 0.0)
    assert not answers_well(Answer(context, " ", (1,), True), 5.0)


def test_what_an_expert_said_is_held_and_lost_without_the_judges_taste() -> None:
    def lost(before: str, now: str) -> Found:
        marked = paper((BAD, GOOD), experts=("It costs 12 pounds.",), said=(before, now))
        assert marked.judged(BASE) == (set(), set())  # the judge likes the candidate's
        assert marked.judged_or_recalled(BASE) == marked.recalled(BASE)
        return marked.recalled(BASE)

    assert lost("That is 12.", "In a very good style it weighs 7 grams.") == ({0}, {0})
    assert lost("That is 12.", "12 pounds, gladly.") == ({0}, set())
    assert lost("That is 7.", "That is 8.") == (set(), set())


def test_without_a_judge_there_is_no_win_rate() -> None:
    whole = paper((GOOD, BAD))
    assert Paper(whole.questions, whole.answers, {}, {}).wins_over(BASE) is None
    found = whole.wins_over(BASE)
    assert found is not None and found.value == 0.0


@pytest.mark.parametrize(
    ("lost_again", "expected", "sittings"), [(1, (), 4), (2, ("question 1?",), 2)]
)
def test_what_looks_lost_is_asked_again_and_most_sittings_decide(
    monkeypatch: pytest.MonkeyPatch, lost_again: int, expected: tuple[str, ...], sittings: int
) -> None:
    asked: list[tuple[int, tuple[str, ...]]] = []

    def sit(  # type: ignore[no-untyped-def]
        self: Examiner, policies: Any, versions: Any, questions: Any, judge: Any, sitting: int = 0
    ):
        asked.append((sitting, tuple(q.prompt.context.question for q in questions)))
        if not sitting:
            return paper(*[(GOOD, GOOD), (GOOD, BAD)][: len(questions)])
        return paper((GOOD, BAD if sitting <= lost_again else GOOD))

    monkeypatch.setattr(Examiner, "_sit", sit)
    must_pass = [question.prompt for question in questions(2)]
    found = examiner()._memory(cast(Any, None), BASE, must_pass, NOTHING, cast(Any, SURE))
    kept = found["must_pass"].kept
    assert (kept.held, kept.lost) == (2, expected)
    again = [(sitting, ("question 1?",)) for sitting in range(1, sittings + 1)]
    assert [one for one in asked if one[1]] == [(0, ("question 0?", "question 1?")), *again]


def test_without_a_judge_nothing_is_said_about_what_is_kept() -> None:
    assert examiner()._memory(cast(Any, None), BASE, (), NOTHING, None) == {}


def examiner() -> Examiner:
    return Examiner(cast(Any, None), cast(Any, None), EXACTLY, lambda: None)


@pytest.mark.parametrize(("fails_again", "named", "sittings"), [(1, (), 4), (2, ("one",), 2)])
def test_a_probe_that_changed_is_asked_again_and_most_sittings_decide(
    monkeypatch: pytest.MonkeyPatch, fails_again: int, named: tuple[str, ...], sittings: int
) -> None:
    """The champion passes both; the candidate fails "one" at first and so many times again."""
    probes = [Probe(n, "injection", (), "", (), ("?",), ("x",), ()) for n in ("none", "one")]
    asked: list[tuple[tuple[int, ...], int, tuple[str, ...]]] = []

    def outcomes(
        self: Examiner, policies: Any, versions: set[int], probes: list[Probe], sitting: int
    ) -> dict[int, list[int]]:
        asked.append((tuple(sorted(versions)), sitting, tuple(one.probe_id for one in probes)))
        bad = {version: version == CANDIDATE and sitting <= fails_again for version in versions}
        return {v: [int(no and one.probe_id == "one") for one in probes] for v, no in bad.items()}

    monkeypatch.setattr(Examiner, "_outcomes", outcomes)
    found = examiner()._probed(cast(Any, None), CHAMPION, probes)["injection"]
    assert (found.newly_failed, found.newly_passed) == (named, ())
    assert (found.champion.value, found.candidate.value) == (0.0, 0.5)
    assert (found.failed_over_base, found.passed_over_base) == (1, 0)
    both = (CHAMPION, CANDIDATE)
    again = [(both, sitting, ("one",)) for sitting in range(1, sittings + 1)]
    assert asked == [((BASE, *both), 0, ("none", "one")), *again]
