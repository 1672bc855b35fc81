"""Judgements meet the turns they point at: each becomes a resolved judgement or is dropped with a
reason.

Knows no weights and no split. Invariants: every text that leaves is redacted; only whole answers
that the policy wrote are judged here; a visitor's judgement counts only in that visitor's own
conversation.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from amends.conversation import Conversation, Turn, prompt_turns
from amends.data_manifest import LEFT_OUT, Dropped
from amends.exclusion import Exclusion, covering
from amends.feedback import Correction, Ranking, Rating, Thumb
from worker.data.examples import Answer, Context
from worker.data.quarantine import Judgement
from worker.data.redaction import redact
from worker.data.split import normalise

NEAR_DUPLICATE = "near-duplicate"


@dataclass(frozen=True)
class Judged:
    """A judgement with the served answers it is about; a rating is about several."""

    feedback: Judgement
    customer: str
    served: tuple[Answer, ...]
    written: tuple[Answer, ...] = ()  # the texts of a correction or ranking, as answers

    @property
    def context(self) -> Context:
        return self.served[0].context

    @property
    def says(self) -> tuple[str, ...]:
        """Equal for judgements that say the same thing twice.

        A visitor who asks and judges the same again counts once; other visitors who see the same
        answer are new evidence. Experts agree by writing the same text, which adds nothing to
        imitate.
        """
        item = self.feedback
        what = [item.kind, normalise(self.context.question)]
        what += [normalise(answer.response) for answer in self.served]
        if isinstance(item, Thumb | Rating):
            return (*what, item.rater.rater_id, str(item.value))
        if isinstance(item, Correction):
            return (*what, normalise(item.response))
        return (*what, *(normalise(response) for response in item.responses))


def resolve(
    feedback: Iterable[Judgement],
    conversations: Mapping[str, Conversation],
    spared: Collection[str] = (),
    without: Sequence[Exclusion] = (),
) -> tuple[list[Judged], list[Dropped]]:
    """Judgements that can be used, sorted by id, what a rater says twice once; and the others."""
    latest: dict[str, Judgement] = {}
    for item in sorted(feedback, key=lambda f: (f.given_at, f.model_dump_json())):
        latest[item.feedback_id] = item
    answers = {
        cid: served_answers(conversation, spared) for cid, conversation in conversations.items()
    }
    judged: list[Judged] = []
    dropped: list[Dropped] = []
    seen: set[tuple[str, ...]] = set()
    for feedback_id, item in sorted(latest.items()):
        conversation = conversations.get(item.conversation_id)
        reason = _refusal(item, conversation, without)
        if conversation is not None and not reason:
            about = _about(item, conversation)
            served = tuple(a for a in answers[item.conversation_id] if a.context.turn_id in about)
            if not served:
                reason = "no whole answer by the policy"
            else:
                written = _written(item, served[0].context, spared)
                found = Judged(item, conversation.visitor_id, served, written)
                if isinstance(item, Thumb | Rating) and found.says in seen:
                    reason = NEAR_DUPLICATE
                else:
                    seen.add(found.says)
                    judged.append(found)
        if reason:
            dropped.append(Dropped(feedback_id, reason))
    return judged, dropped


def _about(item: Judgement, conversation: Conversation) -> set[str]:
    """The turns that a judgement is about: a rating those that had been answered by then."""
    if not isinstance(item, Rating):
        return {item.turn_id}
    return {turn.turn_id for turn in conversation.turns if turn.created_at <= item.given_at}


def served_answers(conversation: Conversation, spared: Collection[str] = ()) -> tuple[Answer, ...]:
    """The whole answers that the policy wrote, in order; `spared` contacts are public."""
    said = [(redact(t.message, spared), redact(t.response, spared)) for t in conversation.turns]
    unchanged = True
    answers: list[Answer] = []
    history: list[tuple[str, str]] = []
    for place, turn in enumerate(conversation.turns):
        unchanged = unchanged and said[place][0] == turn.message
        if turn.origin == "policy" and turn.finish_reason != "cancelled":
            shown = tuple(history[turn.dropped_turns :])
            answers.append(_served(turn, shown, said[place], unchanged))
        unchanged = unchanged and said[place][1] == turn.response
        if prompt_turns((turn,)):
            history.append(said[place])
    return tuple(answers)


def _written(item: Judgement, context: Context, spared: Collection[str]) -> tuple[Answer, ...]:
    """An expert's texts as answers in `context`: no token ids yet, and they end."""
    texts: tuple[str, ...] = ()
    if isinstance(item, Correction):
        texts = (item.response,)
    elif isinstance(item, Ranking):
        texts = item.responses
    return tuple(Answer(context, redact(t, spared), token_ids=None, ended=True) for t in texts)


def _served(
    turn: Turn, history: tuple[tuple[str, str], ...], said: tuple[str, str], unchanged: bool
) -> Answer:
    """`said`: message and response, redacted; `unchanged`: the prompt held nothing to redact."""
    sampled = turn.sampled
    context = Context(
        turn_id=turn.turn_id,
        question=said[0],
        history=history,
        passages=turn.passages,
        token_ids=sampled.prompt_token_ids if sampled and unchanged else None,
    )
    token_ids = sampled.token_ids if sampled and said[1] == turn.response else None
    return Answer(context, said[1], token_ids, ended=turn.finish_reason == "stop")


def _refusal(
    item: Judgement, conversation: Conversation | None, without: Sequence[Exclusion]
) -> str:
    customer = None if conversation is None else conversation.visitor_id
    if left_out := covering(without, item.rater.rater_id, customer):
        return f"{LEFT_OUT}{left_out}"
    if conversation is None:
        return "conversation not found"
    if item.rater.role == "visitor" and item.rater.rater_id != conversation.visitor_id:
        return "rater is not the conversation's visitor"
    if item.rater.role == "visitor" and isinstance(item, Correction | Ranking):
        return "only experts correct and rank"
    return ""
