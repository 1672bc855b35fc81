"""worker.judge.paper and the asking again of worker.judge.examination: what counts as lost."""

from typing import Any, cast

import pytest

from worker.data.examples import Answer, Context, PromptExample
from worker.judge.examination import SITTINGS, Examiner
from worker.judge.paper import BASE, CANDIDATE, Paper
from worker.judge.probes import Probe
from worker.learning_settings import LearningSettings

GOOD, BAD = (1.0, 0.1), (-1.0, 0.1)  # the judge's mark, and its doubt
SURE = object()


def paper(*rows: tuple[tuple[float, float], tuple[float, float]]) -> Paper:
    """(champion's mark, candidate's mark) per question."""
    prompts = tuple(
        PromptExample(Context("", f"question {i}?", (), (), None), str(i), "", True)
        for i in range(len(rows))
    )
    answers = tuple(Answer(p.context, "It is so.", (1,), True) for p in prompts)
    marks = {BASE: [row[0] for row in rows], CANDIDATE: [row[1] for row in rows]}
    return Paper(
        prompts,
        {policy: answers for policy in marks},
        {policy: [mark for mark, _ in some] for policy, some in marks.items()},
        {policy: [doubt for _, doubt in some] for policy, some in marks.items()},
    )


def test_only_what_the_champion_answers_well_can_be_lost() -> None:
    assert paper((GOOD, BAD), (BAD, BAD), (GOOD, GOOD)).held_and_lost(BASE) == (2, (0,))


def test_a_judge_in_doubt_loses_nothing() -> None:
    assert paper((GOOD, (-1.0, 1.0))).held_and_lost(BASE) == (1, ())
    assert paper(((0.3, 0.2), (-0.3, 0.2))).held_and_lost(BASE) == (1, ())


def test_worse_but_still_well_is_kept() -> None:
    assert paper(((3.0, 0.1), (0.5, 0.1))).held_and_lost(BASE) == (1, ())


def test_without_a_judge_there_is_no_win_rate() -> None:
    whole = paper((GOOD, BAD))
    assert Paper(whole.prompts, whole.answers, {}, {}).wins_over(BASE) is None
    found = whole.wins_over(BASE)
    assert found is not None and found.value == 0.0


@pytest.mark.parametrize(("lost_again", "expected"), [(1, ()), (2, ("question 1?",))])
def test_what_looks_lost_is_asked_again_and_most_sittings_decide(
    monkeypatch: pytest.MonkeyPatch, lost_again: int, expected: tuple[str, ...]
) -> None:
    asked: list[tuple[int, tuple[str, ...]]] = []

    def sit(self: Examiner, engine: Any, policies: Any, prompts: Any, judge: Any, sitting: int):  # type: ignore[no-untyped-def]
        asked.append((sitting, tuple(prompt.context.question for prompt in prompts)))
        return paper((GOOD, BAD if sitting <= lost_again else GOOD))

    monkeypatch.setattr(Examiner, "_sit", sit)
    examiner = Examiner(cast(Any, None), cast(Any, None), LearningSettings(), lambda: None)
    first = paper((GOOD, GOOD), (GOOD, BAD))
    kept = examiner._kept(cast(Any, None), BASE, first, cast(Any, SURE))
    assert kept is not None
    assert (kept.held, kept.lost) == (2, expected)
    assert asked == [(sitting, ("question 1?",)) for sitting in range(1, SITTINGS)]


def test_nothing_is_asked_again_when_nothing_looks_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Examiner, "_sit", lambda *_: pytest.fail("asked again"))
    examiner = Examiner(cast(Any, None), cast(Any, None), LearningSettings(), lambda: None)
    kept = examiner._kept(cast(Any, None), BASE, paper((GOOD, GOOD)), cast(Any, SURE))
    assert kept is not None and (kept.held, kept.lost) == (1, ())


@pytest.mark.parametrize(("fails_again", "named"), [(1, ()), (2, ("one",))])
def test_a_probe_that_changed_is_asked_again_and_most_sittings_decide(
    monkeypatch: pytest.MonkeyPatch, fails_again: int, named: tuple[str, ...]
) -> None:
    """The champion passes both; the candidate fails "one" at first and so many times again."""
    probes = [Probe(n, "injection", (), "", (), ("?",), ("x",), ()) for n in ("none", "one")]
    asked: list[tuple[int, int, tuple[str, ...]]] = []

    def outcomes(
        self: Examiner, engine: Any, version: int, probes: list[Probe], sitting: int
    ) -> list[int]:
        asked.append((version, sitting, tuple(probe.probe_id for probe in probes)))
        bad = version == CANDIDATE and sitting <= fails_again
        return [int(bad and probe.probe_id == "one") for probe in probes]

    monkeypatch.setattr(Examiner, "_outcomes", outcomes)
    examiner = Examiner(cast(Any, None), cast(Any, None), LearningSettings(), lambda: None)
    found = examiner._probed(cast(Any, None), BASE, probes)["injection"]
    assert (found.newly_failed, found.newly_passed) == (named, ())
    assert (found.champion.value, found.candidate.value) == (0.0, 0.5)
    assert asked[:2] == [(version, 0, ("none", "one")) for version in (BASE, CANDIDATE)]
    assert asked[2:] == [
        (version, sitting, ("one",))
        for sitting in range(1, SITTINGS)
        for version in (BASE, CANDIDATE)
    ]
