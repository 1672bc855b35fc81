"""What the console's pages of conversations and rounds show, computed from records.

Pure: no request, no store, no template. Invariant: every number and label that a page shows is
decided here.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from amends.conversation import Conversation, Passage, Turn
from amends.events import (
    Event,
    Log,
    Metrics,
    Sample,
    Samples,
    Stage,
    StageFinished,
    StageStarted,
)
from amends.feedback import LOW_RATING, Correction, Feedback, Rating, Thumb
from amends.knowledge import Question
from amends.runs import Run, State
from server.console.wording import number

STAGES: tuple[Stage, ...] = get_args(Stage)
_STAGE_NAMES = {
    "claim": "Taking feedback",
    "dataset": "Preparing data",
    "sft": "Learning corrections",
    "reward": "Reward model",
    "ppo": "PPO",
    "gate": "Gate",
    "publish": "Publishing",
}
_STATE_TONES: dict[State, str] = {
    "QUEUED": "quiet",
    "RUNNING": "busy",
    "GATING": "busy",
    "CANDIDATE": "good",
    "REJECTED": "bad",
    "FAILED": "bad",
    "CANCELLED": "quiet",
}
_ORIGINS = {
    "policy": "",
    "no_passage": "no document fitted",
    "other_language": "another language",
}
_NEVER_LEARNED = {
    "no_passage": "A rule wrote this, because no document fitted: add a document instead.",
    "other_language": "A rule wrote this to who writes another language: no round learns from it.",
    "cancelled": "This answer was stopped before its end; rounds learn from whole answers only.",
    "examined": "This question examines each version; it is never learned from.",
}


@dataclass(frozen=True)
class ConversationRow:
    """One line of the list."""

    conversation_id: str
    first_message: str
    turns: int
    last_at: float
    thumbs_down: int
    thumbs_up: int
    rating: int | None
    corrected: int
    needs_look: bool  # somebody was unhappy, and no expert has answered that


@dataclass(frozen=True)
class TurnView:
    turn_id: str
    message: str
    response: str
    note: str
    policy_version: int
    passages: tuple[Passage, ...]
    created_at: float
    thumb: Thumb | None
    corrections: tuple[Correction, ...]
    own: str | None  # what the expert who looks has written already
    never: str  # why no round learns from it, where none does

    @property
    def asks(self) -> bool:
        """Somebody was unhappy with it and no expert has answered yet."""
        return self.thumb is not None and self.thumb.value < 0 and not self.corrections


@dataclass(frozen=True)
class RunView:
    """A run as a row, and as the head of its page."""

    run_id: int
    state: str
    tone: str
    stage: str
    percent: int
    requested_by: str
    reason: str
    created_at: float
    seconds: float | None
    version: int | None
    error: str | None
    reasons: tuple[str, ...]
    live: bool
    waiting: bool
    cancel_requested: bool


@dataclass(frozen=True)
class StageView:
    name: str
    state: str  # done, now, later
    seconds: float | None


@dataclass(frozen=True)
class MetricTable:
    """The newest steps of one stage, a column per step."""

    stage: str
    steps: tuple[int, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class SampleSet:
    stage: str
    step: int
    texts: tuple[Sample, ...]


@dataclass(frozen=True)
class RunDetails:
    stages: tuple[StageView, ...]
    metrics: tuple[MetricTable, ...]
    samples: tuple[SampleSet, ...]
    log: tuple[str, ...]


def conversation_row(conversation: Conversation, feedback: Sequence[Feedback]) -> ConversationRow:
    thumbs = [given for given in feedback if isinstance(given, Thumb)]
    ratings = [given for given in feedback if isinstance(given, Rating)]
    corrected = {given.turn_id: given.given_at for given in feedback if given.kind == "correction"}
    last = max(corrected.values(), default=0.0)
    values = [thumb.value for thumb in thumbs]
    turns = conversation.turns
    return ConversationRow(
        conversation_id=conversation.conversation_id,
        first_message=turns[0].message if turns else "",
        turns=len(turns),
        last_at=turns[-1].created_at if turns else conversation.opened_at,
        thumbs_down=values.count(-1),
        thumbs_up=values.count(1),
        rating=min((rating.value for rating in ratings), default=None),
        corrected=len(corrected),
        needs_look=any(thumb.value < 0 and thumb.turn_id not in corrected for thumb in thumbs)
        or any(one.value <= LOW_RATING and one.given_at > last for one in ratings),
    )


def examined(questions: Iterable[Question]) -> frozenset[str]:
    """The must-pass questions, to be compared with what visitors ask."""
    return frozenset(_same(question.question) for question in questions if question.must_pass)


def never_learned(turn: Turn, examined: Collection[str]) -> str:
    """Why no round learns from judgements of the turn, '' where one may. Knows must-pass questions
    word by word; rounds leave them out in other words, too.
    """
    if turn.origin != "policy":
        return _NEVER_LEARNED[turn.origin]
    if turn.finish_reason == "cancelled":
        return _NEVER_LEARNED["cancelled"]
    return _NEVER_LEARNED["examined"] if _same(turn.message) in examined else ""


def _same(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold()))


def turn_view(
    turn: Turn, feedback: Sequence[Feedback], expert: str, examined: Collection[str]
) -> TurnView:
    """As this expert sees it; `examined` as never_learned has it."""
    own = [given for given in feedback if getattr(given, "turn_id", None) == turn.turn_id]
    thumbs = [given for given in own if isinstance(given, Thumb)]
    corrections = tuple(given for given in own if isinstance(given, Correction))
    written = [given.response for given in corrections if given.rater.rater_id == expert]
    notes = [_ORIGINS[turn.origin]]
    notes += ["cut off by the visitor"] if turn.finish_reason == "cancelled" else []
    notes += ["cut at the longest length"] if turn.finish_reason == "length" else []
    notes += [f"{turn.dropped_turns} earlier turns left out"] if turn.dropped_turns else []
    return TurnView(
        turn_id=turn.turn_id,
        message=turn.message,
        response=turn.response,
        note=", ".join(note for note in notes if note),
        policy_version=turn.policy_version,
        passages=turn.passages,
        created_at=turn.created_at,
        thumb=thumbs[-1] if thumbs else None,
        corrections=corrections,
        own=written[-1] if written else None,
        never=never_learned(turn, examined),
    )


def run_view(run: Run, now: float) -> RunView:
    seconds = None
    if run.started_at is not None:
        seconds = (run.ended_at or now) - run.started_at
    stage = _STAGE_NAMES.get(run.stage or "", run.stage or "")
    return RunView(
        run_id=run.run_id,
        state=run.state.capitalize(),
        tone=_STATE_TONES[run.state],
        stage="" if run.ended or run.state == "QUEUED" else stage,
        percent=round(100 * run.progress),
        requested_by=run.requested_by,
        reason=run.reason,
        created_at=run.created_at,
        seconds=max(0.0, seconds) if seconds is not None else None,
        version=run.version,
        error=run.error,
        reasons=run.verdict.reasons if run.verdict is not None else (),
        live=not run.ended,
        waiting=run.state == "QUEUED",
        cancel_requested=run.cancel_requested and not run.ended,
    )


def run_details(run: Run, events: Sequence[Event]) -> RunDetails:
    finished: dict[str, float] = {
        e.stage: e.seconds for e in events if isinstance(e, StageFinished)
    }
    started = {e.stage for e in events if isinstance(e, StageStarted)}
    stages = [
        StageView(
            name=_STAGE_NAMES[stage],
            state="done" if stage in finished else _begun(stage in started, run),
            seconds=finished.get(stage),
        )
        for stage in STAGES
        if stage in finished or stage in started or not run.ended
    ]
    return RunDetails(
        stages=tuple(stages),
        metrics=_metric_tables(events),
        samples=tuple(
            SampleSet(_STAGE_NAMES[e.stage], e.step, e.texts)
            for e in events
            if isinstance(e, Samples)
        )[-6:],
        log=tuple(e.text for e in events if isinstance(e, Log))[-100:],
    )


def _begun(started: bool, run: Run) -> str:
    if not started:
        return "later"
    return "stopped" if run.ended else "now"


def _metric_tables(events: Sequence[Event]) -> tuple[MetricTable, ...]:
    tables = []
    for stage in STAGES:
        found = [e for e in events if isinstance(e, Metrics) and e.stage == stage][-6:]
        names = dict.fromkeys(name for event in found for name in event.values)
        rows = tuple(
            (name, tuple(number(e.values[name]) if name in e.values else "" for e in found))
            for name in names
        )
        if rows:
            tables.append(MetricTable(_STAGE_NAMES[stage], tuple(e.step for e in found), rows))
    return tuple(tables)
