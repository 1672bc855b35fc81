"""Claimed feedback and its conversations become a Dataset: examples for train and hold-out, and the
manifest.

Knows no store and no model. Reading order: resolve (redacted) -> quarantine -> split -> sides (what
experts say once) -> examples -> weigh -> manifest. Invariants: train and hold-out share no customer
and no question; what became no example makes no other judgement weigh more or less; the same input
gives the same manifest hash.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from amends.conversation import Conversation, Passage
from amends.data_manifest import DataManifest, Dropped
from amends.exclusion import Exclusion
from amends.feedback import Ranking, Rating, Thumb
from worker.data.examples import (
    Context,
    CorrectionExample,
    Examples,
    PairExample,
    PromptExample,
    RatingExample,
    ThumbExample,
)
from worker.data.made_pairs import made_pairs
from worker.data.manifest import make_manifest
from worker.data.quarantine import Judgement, QuarantineSettings, quarantine
from worker.data.redaction import public_values, redact
from worker.data.resolve import Judged, resolve, served_answers
from worker.data.same_question import question_key
from worker.data.sides import by_side
from worker.data.split import SIDES, Side, Split, SplitSettings, normalise, split
from worker.data.trust import TrustSettings, weigh


@dataclass(frozen=True)
class DatasetSettings:
    """How examples are made."""

    quarantine: QuarantineSettings = field(default_factory=QuarantineSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    made_weight: float = 0.5  # of the correction's weight, for each kind of made pairs; 0: none
    train_prompts: int = 512  # most prompts for rollouts
    holdout_prompts: int = 64  # most prompts for the gate
    reserved: frozenset[str] = frozenset()  # questions that examine the policy: never learned from
    without: tuple[Exclusion, ...] = ()  # whose judgements, or whose conversations, are left out


@dataclass(frozen=True)
class FillUp:
    """A question nobody asked yet, with the passages retrieved for it."""

    question: str
    passages: tuple[Passage, ...]
    intent: str = ""  # "": the source of the first passage


@dataclass(frozen=True)
class Dataset:
    """All that one round learns from, and what it is judged on."""

    train: Examples
    holdout: Examples
    manifest: DataManifest


def build_dataset(
    feedback: Iterable[Judgement],
    conversations: Mapping[str, Conversation],
    fill_up: Sequence[FillUp] = (),
    settings: DatasetSettings | None = None,
) -> Dataset:
    """Examples from all usable feedback. `conversations` (by id) may hold more than were judged."""
    settings = settings or DatasetSettings()
    spared = public_values(_shown(conversations.values(), fill_up))
    judged, dropped = resolve(feedback, conversations, spared, settings.without)
    aside = quarantine([item.feedback for item in judged], settings.quarantine)
    set_aside = {item.feedback_id for item in aside.dropped}
    judged = [item for item in judged if item.feedback.feedback_id not in set_aside]
    reserved = {question_key(question) for question in settings.reserved}
    judged, kept_back = _without(reserved, judged)
    asked = [
        (customer, context)
        for customer, context in _asked(conversations.values(), spared, settings.without)
        if question_key(context.question) not in reserved
    ]
    fill_up = _not_reserved(fill_up, reserved, spared)
    sides = split(
        [(customer, question_key(context.question)) for customer, context in asked],
        [question_key(item.question) for item in fill_up],
        settings.split,
    )
    prompts = {side: _prompts(asked, fill_up, sides, side) for side in SIDES}
    parts, left = by_side(judged, sides)
    notes: list[Dropped] = []
    most: dict[Side, int] = {"train": settings.train_prompts, "holdout": settings.holdout_prompts}
    train, holdout = (
        _examples(parts[side], settings.made_weight, _balanced(prompts[side], most[side]), notes)
        for side in SIDES
    )
    used = {example.feedback_id for side in (train, holdout) for example in side.judged()}
    trust = weigh([i.feedback for i in judged if i.feedback.feedback_id in used], settings.trust)
    train, holdout = train.weighted(trust.weights), holdout.weighted(trust.weights)
    manifest = make_manifest(
        train,
        holdout,
        dropped=(*dropped, *aside.dropped, *kept_back, *left, *notes),
        notes=(*aside.notes, *trust.notes),
        largest_visitor_share=trust.largest_visitor_share,
        expert_shares=trust.expert_shares,
        weights=trust.weights,
        without=tuple(str(item) for item in settings.without),
    )
    return Dataset(train, holdout, manifest)


def _asked(
    conversations: Iterable[Conversation], spared: Collection[str], without: Iterable[Exclusion]
) -> Iterator[tuple[str, Context]]:
    """Customers with the questions that the policy answered. A rater's own questions stay: they
    are a customer's, who may be left out as such.
    """
    left_out = {item.name for item in without if item.kind == "customer"}
    for conversation in sorted(conversations, key=lambda c: c.conversation_id):
        if conversation.visitor_id not in left_out:
            for answer in served_answers(conversation, spared):
                yield conversation.visitor_id, answer.context


def _shown(conversations: Iterable[Conversation], fill_up: Iterable[FillUp]) -> set[str]:
    """Every passage's text: what the shop publishes."""
    shown = [turn.passages for conversation in conversations for turn in conversation.turns]
    shown += [item.passages for item in fill_up]
    return {passage.text for passages in shown for passage in passages}


def _not_reserved(
    fill_up: Iterable[FillUp], reserved: Collection[str], spared: Collection[str]
) -> tuple[FillUp, ...]:
    """Redacted, less what examines the policy in the same words."""
    kept = (item for item in fill_up if question_key(item.question) not in reserved)
    return tuple(replace(item, question=redact(item.question, spared)) for item in kept)


def _without(
    reserved: Collection[str], judged: Iterable[Judged]
) -> tuple[list[Judged], list[Dropped]]:
    """Judgements less their answers to reserved questions, and those that nothing is left of."""
    kept: list[Judged] = []
    dropped: list[Dropped] = []
    for item in judged:
        served = tuple(a for a in item.served if question_key(a.context.question) not in reserved)
        if served:
            kept.append(replace(item, served=served))
        else:
            dropped.append(Dropped(item.feedback.feedback_id, "a reserved question"))
    return kept, dropped


def _examples(
    judged: Sequence[Judged],
    made_weight: float,
    prompts: tuple[PromptExample, ...],
    notes: list[Dropped],
) -> Examples:
    """One side, each judgement weighing 1."""
    pairs: list[PairExample] = []
    thumbs: list[ThumbExample] = []
    ratings: list[RatingExample] = []
    corrections: list[CorrectionExample] = []
    for item in judged:
        given = item.feedback
        who = (given.feedback_id, item.customer, given.rater.rater_id, 1.0)
        if isinstance(given, Thumb):
            thumbs.append(ThumbExample(*who, answer=item.served[0], value=given.value))
        elif isinstance(given, Rating):
            ratings.append(RatingExample(*who, answers=item.served, value=given.value))
        elif isinstance(given, Ranking):
            ranked = _ranked_pairs(item, who)
            pairs += ranked
            if not ranked:
                notes.append(Dropped(given.feedback_id, "ranks equal texts"))
        else:
            answer = item.written[0]
            if normalise(answer.response) != normalise(item.served[0].response):
                pairs.append(PairExample(*who, "correction", answer, item.served[0]))
            if answer.response == given.response:
                corrections.append(CorrectionExample(*who, answer=answer))
            else:  # imitating it would teach the policy to write placeholders
                notes.append(Dropped(given.feedback_id, "not imitated: holds personal data"))
    if made_weight > 0:
        pairs += made_pairs(corrections, made_weight)
    made = Examples(tuple(_once(pairs)), tuple(thumbs), tuple(ratings), tuple(corrections), prompts)
    told = {example.feedback_id for example in made.judged()} | {note.feedback_id for note in notes}
    ids = (item.feedback.feedback_id for item in judged)
    notes += [Dropped(name, "says what others said") for name in ids if name not in told]
    return made


def _ranked_pairs(item: Judged, who: tuple[str, str, str, float]) -> list[PairExample]:
    """All ordered pairs of k responses; weighing k - 1 judgements, the independent ones."""
    served = item.served[0]
    answers = [
        served if normalise(answer.response) == normalise(served.response) else answer
        for answer in item.written
    ]
    weight = who[3] * 2 / len(answers)
    return [
        PairExample(*who[:3], weight, "ranking", better, worse)
        for place, better in enumerate(answers)
        for worse in answers[place + 1 :]
        if normalise(better.response) != normalise(worse.response)
    ]


def _once(pairs: Iterable[PairExample]) -> list[PairExample]:
    """The same preference on the same question once, however many experts or turns state it."""
    first: dict[tuple[str, str, str], PairExample] = {}
    for pair in pairs:
        texts = (pair.chosen.context.question, pair.chosen.response, pair.rejected.response)
        first.setdefault((normalise(texts[0]), normalise(texts[1]), normalise(texts[2])), pair)
    return list(first.values())


def _prompts(
    asked: Iterable[tuple[str, Context]], fill_up: Iterable[FillUp], sides: Split, side: Side
) -> list[PromptExample]:
    """Questions of one side, each once: real ones first (its first asking), then fill-ups."""
    fill_up = list(fill_up)
    intents = {f.passages[0].passage_id: f.intent for f in fill_up if f.passages and f.intent}
    found: dict[str, PromptExample] = {}
    for customer, context in asked:
        question = question_key(context.question)
        if question and sides.side(customer, question) == side:
            intent = intents.get(context.first_passage_id) or _topic(context.passages)
            found.setdefault(question, PromptExample(context, customer, intent, fill_up=False))
    for item in fill_up:
        question = question_key(item.question)
        if question and sides.questions[question] == side:
            context = Context("", item.question, (), item.passages, token_ids=None)
            intent = item.intent or _topic(item.passages)
            found.setdefault(
                question, PromptExample(context, f"question:{question}", intent, fill_up=True)
            )
    return list(found.values())


def _topic(passages: Sequence[Passage]) -> str:
    return passages[0].source if passages else ""


def _balanced(prompts: Sequence[PromptExample], most: int) -> tuple[PromptExample, ...]:
    """At most `most` prompts: one per intent in turn, real questions before fill-ups."""
    taken: list[PromptExample] = []
    used: Counter[str] = Counter()
    for fill_up in (False, True):
        waiting: dict[str, list[PromptExample]] = defaultdict(list)
        for prompt in prompts:
            if prompt.fill_up == fill_up:
                waiting[prompt.intent].append(prompt)
        while any(waiting.values()) and len(taken) < most:
            intent = min((i for i in waiting if waiting[i]), key=lambda i: (used[i], i))
            used[intent] += 1
            taken.append(waiting[intent].pop(0))
    return tuple(taken)
