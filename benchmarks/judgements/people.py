"""What people judged in three public data sets, as examples of a round.

Knows no model but its tokenizer: every reader of these examples sees the same tokens. Groups, named
`customer`: in dstc9 the question's words or, stricter, the passage that answers it; in hh_helpful
and uss the dialogue.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from amends.conversation import Passage
from worker.data.examples import (
    Answer,
    Context,
    Examples,
    PairExample,
    RatingExample,
    ThumbExample,
)
from worker.data.split import normalise

PROMPT_TOKENS, RESPONSE_TOKENS = 160, 128  # a longer prompt loses its beginning
THUMB_UP = 4.0  # the mean of a rater's two ratings from which they are read as a thumb up
DstcGroup = Literal["question", "passage"]
_ROLE = "You are a friendly customer service agent."


class Reader:
    """Texts to answers, each with its token ids."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def context(self, name: str, messages: Sequence[dict[str, str]], passage: str = "") -> Context:
        """Messages (role, content), the last one the visitor's; `name` tells prompts apart."""
        system = f"{_ROLE} Answer from this: {passage}" if passage else _ROLE
        shown = [{"role": "system", "content": system}, *messages]
        text = self._tokenizer.apply_chat_template(
            shown, add_generation_prompt=True, tokenize=False
        )
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        said = [message["content"] for message in messages]
        passages = (Passage(passage_id="p", title="", text=passage, source=""),) if passage else ()
        history = tuple(zip(said[:-1:2], said[1:-1:2], strict=False))
        return Context(name, said[-1], history, passages, tuple(ids[-PROMPT_TOKENS:]))

    def answer(self, context: Context, response: str) -> Answer:
        """Cut to RESPONSE_TOKENS for every reader, whether it reads tokens or words."""
        ids = self._tokenizer(response, add_special_tokens=False)["input_ids"]
        if len(ids) > RESPONSE_TOKENS:
            ids = ids[:RESPONSE_TOKENS]
            response = self._tokenizer.decode(ids)
        return Answer(context, response, (*ids, self._tokenizer.eos_token_id), ended=True)


def dstc9(folder: Path, reader: Reader, group: DstcGroup = "question") -> Examples:
    """Pairs; ratings 1 to 5 of the first two raters; thumbs made of the third one's ratings."""

    def group_of(row: dict[str, Any]) -> str:
        return row["kb_id"] if group == "passage" else normalise(row["question"])

    pairs, thumbs, ratings = [], [], []
    for row in _rows(folder / "dstc9_faq" / "pairs.jsonl"):
        context = reader.context(row["kb_id"], [_asked(row["question"])], row["kb_answer"])
        chosen, rejected = (reader.answer(context, row[side]) for side in ("chosen", "rejected"))
        who = (row["id"], group_of(row), "raters", 1.0)
        pairs.append(PairExample(*who, "ranking", chosen, rejected))
    for row in _rows(folder / "dstc9_faq" / "human_rated.jsonl"):
        context = reader.context(row["kb_id"], [_asked(row["question"])], row["kb_answer"])
        for system in row["systems"]:
            answer = reader.answer(context, system["response"])
            name = f"{row['id']}/{system['system']}"
            *both, third = zip(system["accuracy"], system["appropriateness"], strict=True)
            for rater, given in enumerate(both, start=1):
                for aspect, value in zip(("accuracy", "appropriateness"), given, strict=True):
                    who = (f"{name}/{rater}/{aspect}", group_of(row), f"{aspect} {rater}", 1.0)
                    ratings.append(RatingExample(*who, (answer,), value))
            up = 1 if sum(third) / 2 >= THUMB_UP else -1
            thumbs.append(ThumbExample(f"{name}/3", group_of(row), "thumb 3", 1.0, answer, up))
    return Examples(tuple(pairs), tuple(thumbs), tuple(ratings))


def hh_helpful(folder: Path, reader: Reader) -> Examples:
    """Pairs of the helpful part."""
    pairs = []
    for row in _rows(folder / "hh_rlhf" / "helpful.jsonl"):
        context = reader.context(row["id"], row["prompt"])
        chosen, rejected = (reader.answer(context, row[side]) for side in ("chosen", "rejected"))
        who = (row["id"], row["prompt"][0]["content"], "rater", 1.0)
        pairs.append(PairExample(*who, "ranking", chosen, rejected))
    return Examples(tuple(pairs))


def uss(folder: Path, reader: Reader) -> Examples:
    """Ratings of single turns by three to seven raters each, who are known by their place alone."""
    ratings = []
    for row in _rows(folder / "uss_satisfaction" / "turns.jsonl"):
        answer = reader.answer(reader.context(row["id"], row["context"]), row["response"])
        dialogue = row["id"].rpartition("-")[0]
        for rater, value in enumerate(row["ratings"], start=1):
            who = (f"{row['id']}/{rater}", dialogue, f"rater {rater}", 1.0)
            ratings.append(RatingExample(*who, (answer,), value))
    return Examples(ratings=tuple(ratings))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        yield from map(json.loads, lines)


def _asked(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}
