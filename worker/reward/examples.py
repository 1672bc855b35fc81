"""Examples become index tensors over one table of distinct answers, so that features are computed
once per answer.

Knows no features of the language model (whoever has a model computes them for
`AnswerTable.answers`, in that order). Invariant: row i of every feature matrix belongs to
answers[i]; indices never point outside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.data.examples import Answer, Examples
from worker.reward.overlap import OVERLAP_FEATURES, overlap_features

VIEWS = ("pairs", "thumbs", "ratings")


@dataclass(frozen=True)
class AnswerTable:
    """Distinct answers in order of first use."""

    answers: tuple[Answer, ...]

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> "AnswerTable":
        return cls(tuple({answer.key: answer for answer in answers}.values()))

    def rows(self, answers: Sequence[Answer]) -> Tensor:
        """Row numbers of `answers` (N,), int64."""
        row = {answer.key: place for place, answer in enumerate(self.answers)}
        return torch.tensor([row[answer.key] for answer in answers], dtype=torch.int64)

    def overlap(self) -> Tensor:
        """Overlap features of every answer (N, O), float64."""
        return overlap_matrix(self.answers)


def overlap_matrix(answers: Sequence[Answer]) -> Tensor:
    """Overlap features (N, O), float64, columns in the order of OVERLAP_FEATURES."""
    rows = [
        overlap_features(
            answer.context.question, answer.context.passage_texts, answer.response, answer.ended
        )
        for answer in answers
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(OVERLAP_FEATURES))


@dataclass(frozen=True)
class Views:
    """The kinds of feedback as tensors over rows of an AnswerTable.

    Customers and raters are numbered from 0 in sorted order; N differs by kind. Weights are
    float64.
    """

    customers: tuple[str, ...]
    chosen: Tensor  # (N,) rows, int64; so rejected
    rejected: Tensor
    pair_weight: Tensor
    pair_customer: Tensor  # (N,) numbers of customers, int64
    trusted_pairs: int  # pairs that an expert judged
    thumb: Tensor  # (N,) rows
    thumb_up: Tensor  # (N,) 1.0 or 0.0
    thumb_weight: Tensor
    thumb_customer: Tensor
    thumb_rater: Tensor  # (N,) numbers of raters
    turn: Tensor  # (M,) rows of all turns of all rated conversations, one after the other
    turn_rating: Tensor  # (M,) which rating each turn belongs to
    rating: Tensor  # (N,) 1..5, int64
    rating_weight: Tensor
    rating_customer: Tensor
    rating_rater: Tensor
    raters: tuple[str, ...]

    def rated_mean(self, scores: Tensor) -> Tensor:
        """Mean score of each rated conversation's turns (N,) from scores of the table (A,)."""
        count = len(self.rating)
        sums = scores.new_zeros(count).index_add(0, self.turn_rating, scores[self.turn])
        return sums / torch.bincount(self.turn_rating, minlength=count).clamp(min=1)

    @property
    def customer_of(self) -> dict[str, Tensor]:
        """Numbers of customers (N,) of each view."""
        found = (self.pair_customer, self.thumb_customer, self.rating_customer)
        return dict(zip(VIEWS, found, strict=True))

    def judgements(self) -> list["Judgement"]:
        """Every item of every view, with the answers that it is about."""
        turns: list[list[int]] = [[] for _ in self.rating]
        for rating, row in zip(self.turn_rating.tolist(), self.turn.tolist(), strict=True):
            turns[rating].append(row)
        both = torch.stack([self.chosen, self.rejected], dim=1).tolist()
        rows_of: dict[str, list[tuple[int, ...]]] = {
            "pairs": [tuple(rows) for rows in both],
            "thumbs": [(row,) for row in self.thumb.tolist()],
            "ratings": [tuple(rows) for rows in turns],
        }
        return [
            Judgement(view, place, customer, rows)
            for view, all_rows in rows_of.items()
            for place, (rows, customer) in enumerate(
                zip(all_rows, self.customer_of[view].tolist(), strict=True)
            )
        ]


@dataclass(frozen=True)
class Judgement:
    """Item number `place` of a view, about answers in `rows`."""

    view: str
    place: int
    customer: int
    rows: tuple[int, ...]


def make_views(examples: Examples, table: AnswerTable) -> Views:
    """The tensors of one side of the split; `table` holds at least its answers."""
    pairs, thumbs, ratings = examples.pairs, examples.thumbs, examples.ratings
    everything = (*pairs, *thumbs, *ratings)
    customers = tuple(sorted({example.customer for example in everything}))
    raters = tuple(sorted({example.rater_id for example in (*thumbs, *ratings)}))
    customer = {name: place for place, name in enumerate(customers)}
    rater = {name: place for place, name in enumerate(raters)}
    return Views(
        customers=customers,
        raters=raters,
        chosen=table.rows([pair.chosen for pair in pairs]),
        rejected=table.rows([pair.rejected for pair in pairs]),
        pair_weight=_floats(pair.weight for pair in pairs),
        pair_customer=_ints(customer[pair.customer] for pair in pairs),
        trusted_pairs=examples.trusted_pairs,
        thumb=table.rows([thumb.answer for thumb in thumbs]),
        thumb_up=_floats(float(thumb.value > 0) for thumb in thumbs),
        thumb_weight=_floats(thumb.weight for thumb in thumbs),
        thumb_customer=_ints(customer[thumb.customer] for thumb in thumbs),
        thumb_rater=_ints(rater[thumb.rater_id] for thumb in thumbs),
        turn=table.rows([answer for rating in ratings for answer in rating.answers]),
        turn_rating=_ints(place for place, rating in enumerate(ratings) for _ in rating.answers),
        rating=_ints(rating.value for rating in ratings),
        rating_weight=_floats(rating.weight for rating in ratings),
        rating_customer=_ints(customer[rating.customer] for rating in ratings),
        rating_rater=_ints(rater[rating.rater_id] for rating in ratings),
    )


def _floats(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _ints(values: Iterable[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)
